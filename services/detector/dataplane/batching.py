"""One bounded queue per loaded version, and the threads that take pictures from it in batches.

A thread does everything for the pictures it took: prepare, run, finish. With batches of one, the default on
a CPU, a picture therefore never changes threads between its arrival and its answer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from services.detector.dataplane.problems import Draining, InferenceFailed, QueueDeadlineExceeded
from services.detector.dataplane.session import Tensors
from services.detector.metrics import VersionMetrics
from shared.core.logging import get_logger
from shared.core.problems import Problem, QueueFull

logger = get_logger(__name__)

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

DropReason = Literal["client_gone", "deadline", "drain"]


class Work(Protocol[R_co]):
    """What a transport hands in: both steps run in a worker thread, `finish` after `prepare`."""

    def prepare(self) -> Tensors:
        """Return the graph's inputs, each [rows, …]. What it raises becomes this work's answer."""

    def finish(self, outputs: Tensors) -> R_co:
        """Return the answer from this work's rows of the graph's outputs."""


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    max_batch: int = 1
    max_delay_s: float = 0.0
    queue_size: int = 128
    instances: int = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a picture's time went, in seconds; in a batch the stages are those of the whole batch."""

    queue_s: float
    preprocess_s: float
    compute_s: float
    postprocess_s: float


@dataclass(eq=False, slots=True)
class Ticket(Generic[R]):
    """One piece of work in a queue; `future` yields its value and timing."""

    work: Work[R]
    submitted_at: float  # time.monotonic(), like `deadline`
    deadline: float
    future: "Future[tuple[R, Timing]]" = field(default_factory=Future)
    # Set when its client goes while a worker already has it; looked at before compute.
    dropped: DropReason | None = None


class Batcher:
    """Runs work through `run` (the session) under a policy; closed once, never reopened."""

    def __init__(
        self,
        name: str,
        run: Callable[[Tensors], Tensors],
        policy: BatchPolicy,
        metrics: VersionMetrics,
        decode_pool: Executor | None = None,
    ) -> None:
        self._name = name
        self._run = run
        self._policy = policy
        self._metrics = metrics
        self._decode_pool = decode_pool
        self._queue: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._forming = threading.Lock()  # one batch is put together at a time, so that none stays half full
        self._closing = False
        self._seconds_per_picture = 0.0  # of one thread; moving average
        self._threads = [
            threading.Thread(target=self._serve, name=f"{name}-{number}", daemon=True)
            for number in range(policy.instances)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """How many pieces of work wait."""
        return len(self._queue)

    def refuse_if_full(self, count: int = 1) -> None:
        """Raise QueueFull where `count` more would not fit now; nothing is reserved."""
        depth = len(self._queue)
        if depth + count <= self._policy.queue_size:
            return
        wait_s = depth * self._seconds_per_picture / self._policy.instances
        raise QueueFull(
            f"{depth} pictures wait for {self._name} and its queue holds {self._policy.queue_size}; "
            "send this again after Retry-After",
            retry_after_s=wait_s,
        )

    def submit(self, works: Sequence[Work[R]], *, wait_s: float) -> list[Ticket[R]]:
        """Queue all of `works` or none; each may wait `wait_s` seconds. Raises QueueFull or Draining."""
        now = time.monotonic()
        tickets = [Ticket(work, now, now + wait_s) for work in works]
        with self._changed:
            if self._closing:
                raise Draining(f"{self._name} is being unloaded; send this again")
            self.refuse_if_full(len(works))
            self._queue.extend(tickets)
            self._metrics.queue_depth.set(len(self._queue))
            self._changed.notify(len(tickets))
        return tickets

    def drop(self, ticket: Ticket, reason: DropReason) -> bool:
        """Take `ticket` out because nobody waits any more; False where it is past its compute or in it."""
        with self._changed:
            try:
                self._queue.remove(ticket)
            except ValueError:
                # A thread has it. With the client gone it still skips compute; past its deadline it goes on,
                # because that bounds only the wait in the queue.
                if reason == "client_gone":
                    ticket.dropped = reason
                return False
            self._metrics.queue_depth.set(len(self._queue))
        self._metrics.drop(reason)
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
            left = list(self._queue)
            self._queue.clear()
        for ticket in left:
            self._metrics.drop("drain")
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
            while not self._queue:
                if self._closing:
                    return None
                self._changed.wait()
            reason = self._wait_for_more()
            now = time.monotonic()
            batch: list[Ticket] = []
            expired: list[Ticket] = []
            while self._queue and len(batch) < self._policy.max_batch:
                ticket = self._queue.popleft()
                (batch if now < ticket.deadline else expired).append(ticket)
            self._metrics.queue_depth.set(len(self._queue))
        for ticket in expired:
            self._metrics.drop("deadline")
            ticket.future.set_exception(queue_deadline_exceeded(ticket))
        return batch, reason

    def _wait_for_more(self) -> str:
        """Wait until the batch is full or its first picture has waited long enough; return which it was."""
        while self._queue and len(self._queue) < self._policy.max_batch:
            if self._closing:
                return "drain"
            remaining_s = self._queue[0].submitted_at + self._policy.max_delay_s - time.monotonic()
            if remaining_s <= 0:
                return "delay"
            self._changed.wait(remaining_s)
        return "full"

    def _process(self, batch: list[Ticket], reason: str) -> None:
        taken_at = time.monotonic()
        prepared: list[tuple[Ticket, Tensors]] = []
        for ticket, inputs in zip(batch, self._prepare_all(batch), strict=True):
            if ticket.dropped:
                self._metrics.drop(ticket.dropped)
            elif isinstance(inputs, Exception):
                self._fail(ticket, inputs)
            else:
                prepared.append((ticket, inputs))
        if not prepared:
            return
        prepared_at = time.monotonic()
        self._metrics.batch(len(prepared), reason)
        inputs_of_each = [inputs for _, inputs in prepared]
        try:
            outputs = self._run(_joined(inputs_of_each))
        except Exception as error:  # noqa: BLE001 - whatever the runtime raised is each caller's answer
            for ticket, _ in prepared:
                self._fail(ticket, error)
            return
        computed_at = time.monotonic()
        for (ticket, _), rows in zip(prepared, _row_ranges(inputs_of_each), strict=True):
            self._finish(ticket, outputs, rows, taken_at, prepared_at, computed_at)
        self._learn_pace((time.monotonic() - taken_at) / len(batch))

    def _prepare_all(self, batch: list[Ticket]) -> list[Tensors | Exception]:
        if len(batch) == 1 or self._decode_pool is None:
            return [_prepare(ticket) for ticket in batch]
        return list(self._decode_pool.map(_prepare, batch))

    def _finish(
        self,
        ticket: Ticket,
        outputs: Tensors,
        rows: slice,
        taken_at: float,
        prepared_at: float,
        computed_at: float,
    ) -> None:
        started_at = time.monotonic()
        try:
            value = ticket.work.finish({name: tensor[rows] for name, tensor in outputs.items()})
        except Exception as error:  # noqa: BLE001 - it belongs to this caller alone
            self._fail(ticket, error)
            return
        timing = Timing(
            queue_s=taken_at - ticket.submitted_at,
            preprocess_s=prepared_at - taken_at,
            compute_s=computed_at - prepared_at,
            postprocess_s=time.monotonic() - started_at,
        )
        self._metrics.queue.observe(timing.queue_s)
        self._metrics.preprocess.observe(timing.preprocess_s)
        self._metrics.compute.observe(timing.compute_s)
        self._metrics.postprocess.observe(timing.postprocess_s)
        ticket.future.set_result((value, timing))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not isinstance(error, Problem):
            logger.error("inference failed", model=self._name, error=repr(error), exc_info=error)
            error = InferenceFailed(f"{self._name} failed on this picture; the server's log says why")
        ticket.future.set_exception(error)

    def _learn_pace(self, seconds_per_picture: float) -> None:
        # Threads may overwrite each other's step; it only informs Retry-After.
        self._seconds_per_picture += 0.1 * (seconds_per_picture - self._seconds_per_picture)


def queue_deadline_exceeded(ticket: Ticket) -> QueueDeadlineExceeded:
    """Return the problem of a ticket whose turn did not come in time."""
    allowed_s = ticket.deadline - ticket.submitted_at
    return QueueDeadlineExceeded(
        f"its turn did not come within {allowed_s:g} s; send fewer pictures at once, or try again later"
    )


def _prepare(ticket: Ticket) -> Tensors | Exception:
    try:
        return ticket.work.prepare()
    except Exception as error:  # noqa: BLE001 - one bad picture must not fail the batch it is in
        return error


def _joined(inputs: list[Tensors]) -> Tensors:
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([one[name] for one in inputs]) for name in inputs[0]}


def _row_ranges(inputs: list[Tensors]) -> list[slice]:
    counts = [len(next(iter(one.values()))) for one in inputs]
    return [slice(*ends) for ends in pairwise(accumulate(counts, initial=0))]
