"""One bounded queue per loaded version, and the threads that take work from it in batches.

A thread does everything for the work it took (computing.py): prepare, run, finish. With batches of one,
the default on a CPU, a picture therefore never changes threads between its arrival and its answer.
"""

import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from services.detector.dataplane.computing import Compute, Run
from services.detector.dataplane.in_flight import InFlight
from services.detector.dataplane.problems import Draining, QueueDeadlineExceeded, TooManyRows
from services.detector.dataplane.statistics import Statistics
from services.detector.dataplane.waiting_line import WaitingLine
from services.detector.dataplane.work import USUAL_LEVEL, DropReason, Ticket, Work
from services.detector.metrics import VersionMetrics
from shared.core.problems import QueueFull

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How work is gathered. A run takes at most `max_batch` rows; one piece of work may bring `max_rows`,
    which is run in parts where it is more than that. `queue_size` counts rows. Above `queue_s` seconds of
    foreseen wait the queue is full however short it is, if each thread has something waiting; None leaves it
    to its size."""

    max_batch: int = 1
    max_delay_s: float = 0.0
    queue_size: int = 128
    queue_s: float | None = None
    instances: int = 1
    max_rows: int | None = None  # None: as many as max_batch

    @property
    def rows_of_one(self) -> int:
        """Most rows that one piece of work may bring."""
        return self.max_batch if self.max_rows is None else self.max_rows


class Batcher:
    """Runs work through `run` (the session) under a policy; closed once, never reopened.

    `run_alone`, if given, is used for work that has the process to itself, which `in_flight` tells; it has
    to be shared by all batchers of the process.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        policy: BatchPolicy,
        metrics: VersionMetrics,
        decode_pool: Executor | None = None,
        *,
        run_alone: Run | None = None,
        in_flight: InFlight | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        self._name = name
        self._policy = policy
        self._metrics = metrics
        self._in_flight = in_flight or InFlight()
        self.statistics = statistics or Statistics()
        self._compute = Compute(
            name,
            run,
            policy.max_batch,
            metrics,
            self.statistics,
            self._in_flight,
            decode_pool=decode_pool,
            run_alone=run_alone,
        )
        self._line = WaitingLine()
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        # One batch is put together at a time, so that none stays half full. Where none is waited for, every
        # thread waits for work itself: taking turns would wake a second one for each request.
        gathers = policy.max_batch > 1 and policy.max_delay_s > 0
        self._forming: AbstractContextManager[object] = threading.Lock() if gathers else nullcontext()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True)
            for number in range(policy.instances)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """How many rows wait."""
        return self._line.rows

    def refuse_if_full(self, count: int = 1, *, foresee: bool = True) -> None:
        """Raise QueueFull where `count` more rows would not fit now; nothing is reserved.

        One request always fits where nothing waits: it could never be sent otherwise. Without `foresee`
        only the size counts, however long the wait.
        """
        policy, depth = self._policy, self._line.rows
        # As long as the first of `count` would wait.
        wait_s = depth * self._compute.pace.seconds_per_row / policy.instances
        if depth and depth + count > policy.queue_size:
            room = f"its queue holds {policy.queue_size}"
        elif (
            foresee
            and policy.queue_s is not None
            and wait_s > policy.queue_s
            and depth >= policy.instances
            and self._compute.pace.is_sure
        ):
            room = (
                f"take {wait_s:.3f} s, more than the {policy.queue_s:g} s that a queue may take "
                "(SIGHTLINE_DETECTOR_QUEUE_S)"
            )
        else:
            return
        self.statistics.failed()
        raise QueueFull(
            f"{depth} pictures wait for {self._name} and {room}; send this again after Retry-After",
            retry_after_s=wait_s,
        )

    def submit(
        self, works: Sequence[Work[R]], *, wait_s: float, priority: int = 0, foresee: bool = True
    ) -> list[Ticket[R]]:
        """Queue all of `works` or none; each may wait `wait_s` seconds.

        `priority` 1 is taken before all others, larger numbers later, 0 as USUAL_LEVEL; `foresee` as for
        refuse_if_full. Raises TooManyRows, QueueFull or Draining.
        """
        most = self._policy.rows_of_one
        for work in works:
            if work.rows > most:
                raise TooManyRows(
                    f"{work.rows} rows in one request, and max_batch_size of {self._name} is {most}; "
                    "send them in several"
                )
        now = time.monotonic()
        level = priority or USUAL_LEVEL
        with self._changed:
            if self._closing:
                raise Draining(f"{self._name} is being unloaded; send this again")
            self.refuse_if_full(sum(work.rows for work in works), foresee=foresee)
            tickets = [
                Ticket(work, work.rows, (level, next(self._arrivals)), now, now + wait_s) for work in works
            ]
            self._in_flight.enter(len(tickets))
            for ticket in tickets:
                self._line.add(ticket)
            self._metrics.queue_depth.set(self._line.rows)
            self._changed.notify(len(tickets))
        return tickets

    def drop(self, ticket: Ticket, reason: DropReason) -> bool:
        """Take `ticket` out because nobody waits any more; False where it is past its compute or in it."""
        with self._changed:
            if not self._line.remove(ticket):
                # A thread has it. With the client gone it still skips compute; past its deadline it goes on,
                # because that bounds only the wait in the queue.
                if reason == "client_gone":
                    ticket.dropped = reason
                return False
            self._metrics.queue_depth.set(self._line.rows)
        self._compute.dropped(ticket, reason)
        return True

    def close(self, timeout_s: float) -> bool:
        """Finish what is queued, at most for `timeout_s`; what is left then is dropped as draining.

        Returns whether all threads have ended.
        """
        until = time.monotonic() + timeout_s
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            left = self._line.take_all()
        for ticket in left:
            self._compute.dropped(ticket, "drain")
            ticket.future.set_exception(Draining("the server stopped before this picture's turn came"))
        return not any(thread.is_alive() for thread in self._threads)

    # In the worker threads

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            batch, reason = taken
            if batch:
                self._compute.process(batch, reason)

    def _take(self) -> tuple[list[Ticket], str] | None:
        """Return the next batch and why it left; None once closing and empty. Expired work is answered."""
        with self._forming, self._changed:
            while not self._line:
                if self._closing:
                    return None
                self._changed.wait()
            reason = self._wait_for_more()
            batch, expired = self._line.take(self._policy.max_batch, time.monotonic())
            self._metrics.queue_depth.set(self._line.rows)
        for ticket in expired:
            self._compute.dropped(ticket, "deadline")
            ticket.future.set_exception(queue_deadline_exceeded(ticket))
        return batch, reason

    def _wait_for_more(self) -> str:
        """Wait until the batch is full or its first work has waited long enough; return which it was."""
        while self._line and not self._line.fills(self._policy.max_batch):
            if self._closing:
                return "drain"
            remaining_s = self._line.oldest_at() + self._policy.max_delay_s - time.monotonic()
            if remaining_s <= 0:
                return "delay"
            self._changed.wait(remaining_s)
        return "full"


def queue_deadline_exceeded(ticket: Ticket) -> QueueDeadlineExceeded:
    """Return the problem of a ticket whose turn did not come in time."""
    allowed_s = ticket.deadline - ticket.submitted_at
    return QueueDeadlineExceeded(
        f"its turn did not come within {allowed_s:g} s; send fewer pictures at once, or try again later"
    )
