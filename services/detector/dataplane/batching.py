"""One bounded queue per loaded version, and the threads that take work from it in batches.

A thread does everything for the work it took: prepare, run, finish. With batches of one, the default on
a CPU, a picture therefore never changes threads between its arrival and its answer.
"""

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

from services.detector.dataplane.in_flight import InFlight
from services.detector.dataplane.pace import Pace
from services.detector.dataplane.problems import (
    Draining,
    InferenceFailed,
    QueueDeadlineExceeded,
    TooManyRows,
)
from services.detector.dataplane.rows import chunks, joined, row_ranges, rows_of, same_shapes
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.statistics import Statistics
from services.detector.dataplane.waiting_line import WaitingLine
from services.detector.dataplane.work import USUAL_LEVEL, DropReason, Ticket, Timing, Work
from services.detector.metrics import VersionMetrics
from shared.core.logging import get_logger
from shared.core.problems import Problem, QueueFull

logger = get_logger(__name__)

R = TypeVar("R")

Run = Callable[[Tensors], Tensors]


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
        self._run = run
        self._run_alone = run_alone
        self._policy = policy
        self._metrics = metrics
        self._decode_pool = decode_pool
        self._in_flight = in_flight or InFlight()
        self.statistics = statistics or Statistics()
        self._line = WaitingLine()
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        # One batch is put together at a time, so that none stays half full. Where none is waited for, every
        # thread waits for work itself: taking turns would wake a second one for each request.
        gathers = policy.max_batch > 1 and policy.max_delay_s > 0
        self._forming: AbstractContextManager[object] = threading.Lock() if gathers else nullcontext()
        self._closing = False
        self._pace = Pace()
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

    def refuse_if_full(self, count: int = 1) -> None:
        """Raise QueueFull where `count` more rows would not fit now; nothing is reserved.

        One request always fits where nothing waits: it could never be sent otherwise.
        """
        policy, depth = self._policy, self._line.rows
        # As long as the first of `count` would wait.
        wait_s = depth * self._pace.seconds_per_row / policy.instances
        if depth and depth + count > policy.queue_size:
            room = f"its queue holds {policy.queue_size}"
        elif (
            policy.queue_s is not None
            and wait_s > policy.queue_s
            and depth >= policy.instances
            and self._pace.is_sure
        ):
            room = f"take {wait_s:.1f} s, more than the {policy.queue_s:g} s that a queue may take"
        else:
            return
        self.statistics.failed()
        raise QueueFull(
            f"{depth} pictures wait for {self._name} and {room}; send this again after Retry-After",
            retry_after_s=wait_s,
        )

    def submit(self, works: Sequence[Work[R]], *, wait_s: float, priority: int = 0) -> list[Ticket[R]]:
        """Queue all of `works` or none; each may wait `wait_s` seconds.

        `priority` 1 is taken before all others, larger numbers later, 0 as USUAL_LEVEL. Raises TooManyRows,
        QueueFull or Draining.
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
            self.refuse_if_full(sum(work.rows for work in works))
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
        self._count_dropped(ticket, reason)
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
            self._count_dropped(ticket, "drain")
            ticket.future.set_exception(Draining("the server stopped before this picture's turn came"))
        return not any(thread.is_alive() for thread in self._threads)

    # In the worker threads

    def _serve(self) -> None:
        while (taken := self._take()) is not None:
            batch, reason = taken
            if batch:
                self._process(batch, reason)

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
            self._count_dropped(ticket, "deadline")
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

    def _process(self, batch: list[Ticket], reason: str) -> None:
        taken_at = time.monotonic()
        prepared: list[tuple[Ticket, Tensors]] = []
        for ticket, inputs in zip(batch, self._prepare_all(batch), strict=True):
            if ticket.dropped:
                self._count_dropped(ticket, ticket.dropped)
            elif isinstance(inputs, Exception):
                self._fail(ticket, inputs)
            else:
                prepared.append((ticket, inputs))
        # What has other sizes in its free dimensions cannot share a run; for most graphs there is one group.
        for group in same_shapes(prepared):
            self._compute(group, reason, taken_at, time.monotonic())
        self._pace.measured((time.monotonic() - taken_at) / sum(ticket.rows for ticket in batch))

    def _compute(
        self, group: list[tuple[Ticket, Tensors]], reason: str, taken_at: float, prepared_at: float
    ) -> None:
        tickets = [ticket for ticket, _ in group]
        inputs_of_each = [inputs for _, inputs in group]
        run_s: list[tuple[int, float]] = []  # rows and seconds of each run
        try:
            outputs = self._run_in_parts(tickets, joined(inputs_of_each), reason, run_s)
        except Exception as error:  # noqa: BLE001 - whatever the runtime raised is each caller's answer
            for ticket in tickets:
                self._fail(ticket, error)
            return
        if outputs is None:  # its client went between two parts
            for ticket in tickets:
                self._count_dropped(ticket, ticket.dropped or "client_gone")
            return
        computed_at = time.monotonic()
        # Counted before it is answered, so that whoever has the answer finds it counted.
        for size, seconds in run_s:
            self.statistics.executed(size, (prepared_at - taken_at) / len(run_s), seconds)
        for ticket, rows in zip(tickets, row_ranges(inputs_of_each), strict=True):
            self._finish(ticket, outputs, rows, (taken_at, prepared_at, computed_at), run_s[0][0])

    def _run_in_parts(
        self, tickets: list[Ticket], inputs: Tensors, reason: str, run_s: list[tuple[int, float]]
    ) -> Tensors | None:
        """Return the outputs of all rows, at most max_batch in a run; None once nobody waits for them."""
        parts: list[Tensors] = []
        for part in chunks(inputs, self._policy.max_batch):
            if parts and all(ticket.dropped for ticket in tickets):
                return None
            started = time.monotonic()
            rows = rows_of(part)
            alone = self._run_alone is not None and self._in_flight.count <= len(tickets)
            self._metrics.batch(rows, reason, "wide" if alone else "narrow")
            run = self._run_alone if alone and self._run_alone is not None else self._run
            parts.append(run(part))
            run_s.append((rows, time.monotonic() - started))
        return joined(parts)

    def _prepare_all(self, batch: list[Ticket]) -> list[Tensors | Exception]:
        if len(batch) == 1 or self._decode_pool is None:
            return [_prepare(ticket) for ticket in batch]
        return list(self._decode_pool.map(_prepare, batch))

    def _finish(
        self,
        ticket: Ticket,
        outputs: Tensors,
        rows: slice,
        stages_at: tuple[float, float, float],
        batch_size: int,
    ) -> None:
        taken_at, prepared_at, computed_at = stages_at
        started_at = time.monotonic()
        try:
            value = ticket.work.finish({name: tensor[rows] for name, tensor in outputs.items()})
        except Exception as error:  # noqa: BLE001 - it belongs to this caller alone
            self._fail(ticket, error)
            return
        finished_at = time.monotonic()
        timing = Timing(
            queue_s=taken_at - ticket.submitted_at,
            preprocess_s=prepared_at - taken_at,
            compute_s=computed_at - prepared_at,
            postprocess_s=finished_at - started_at,
        )
        self._metrics.queue.observe(timing.queue_s)
        self._metrics.preprocess.observe(timing.preprocess_s)
        self._metrics.compute.observe(timing.compute_s)
        self._metrics.postprocess.observe(timing.postprocess_s)
        self.statistics.succeeded(ticket.rows, finished_at - ticket.submitted_at, timing, batch_size)
        self._in_flight.leave()
        ticket.future.set_result((value, timing))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not isinstance(error, Problem):
            logger.error("inference failed", model=self._name, error=repr(error), exc_info=error)
            error = InferenceFailed(f"{self._name} failed on this picture; the server's log says why")
        self.statistics.failed(time.monotonic() - ticket.submitted_at)
        self._in_flight.leave()
        ticket.future.set_exception(error)

    def _count_dropped(self, ticket: Ticket, reason: DropReason) -> None:
        waited_s = time.monotonic() - ticket.submitted_at
        if reason == "client_gone":
            self.statistics.cancelled(waited_s)
        else:
            self.statistics.failed(waited_s)
        self._metrics.drop(reason)
        self._in_flight.leave()


def queue_deadline_exceeded(ticket: Ticket) -> QueueDeadlineExceeded:
    """Return the problem of a ticket whose turn did not come in time."""
    allowed_s = ticket.deadline - ticket.submitted_at
    return QueueDeadlineExceeded(
        f"its turn did not come within {allowed_s:g} s; send fewer pictures at once, or try again later"
    )


def _prepare(ticket: Ticket) -> Tensors | Exception:
    try:
        inputs = ticket.work.prepare()
        if (rows := rows_of(inputs)) != ticket.rows:
            return ValueError(f"the work announced {ticket.rows} rows and brought {rows}")
    except Exception as error:  # noqa: BLE001 - one bad picture must not fail the batch it is in
        return error
    return inputs
