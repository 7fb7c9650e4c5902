"""What a thread does with a batch that it took: prepare, run, finish, and count how each piece ended."""

import time
from collections.abc import Callable
from concurrent.futures import Executor

from services.detector.dataplane.in_flight import InFlight
from services.detector.dataplane.pace import Pace
from services.detector.dataplane.problems import InferenceFailed
from services.detector.dataplane.rows import chunks, joined, row_ranges, rows_of, same_shapes
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.statistics import Statistics
from services.detector.dataplane.work import DropReason, Ticket, Timing
from services.detector.metrics import VersionMetrics
from shared.core.logging import get_logger
from shared.core.problems import Problem

logger = get_logger(__name__)

Run = Callable[[Tensors], Tensors]


class Compute:
    """Runs batches of one version through `run`, or `run_alone` where nothing else is in flight.

    Every ticket leaves `in_flight` here, once, with its answer or without. Called from any thread.
    """

    def __init__(
        self,
        name: str,
        run: Run,
        max_batch: int,
        metrics: VersionMetrics,
        statistics: Statistics,
        in_flight: InFlight,
        *,
        decode_pool: Executor | None,
        run_alone: Run | None,
    ) -> None:
        self._name = name
        self._run = run
        self._run_alone = run_alone
        self._max_batch = max_batch
        self._metrics = metrics
        self._statistics = statistics
        self._in_flight = in_flight
        self._decode_pool = decode_pool
        self.pace = Pace()

    def process(self, batch: list[Ticket], reason: str) -> None:
        """Answer every ticket of `batch`; `reason` says why it did not wait for more (full, delay, drain)."""
        taken_at = time.monotonic()
        prepared: list[tuple[Ticket, Tensors]] = []
        for ticket, inputs in zip(batch, self._prepare_all(batch), strict=True):
            if ticket.dropped:
                self.dropped(ticket, ticket.dropped)
            elif isinstance(inputs, Exception):
                self._fail(ticket, inputs)
            else:
                prepared.append((ticket, inputs))
        # What has other sizes in its free dimensions cannot share a run; for most graphs there is one group.
        for group in same_shapes(prepared):
            self._run_group(group, reason, taken_at, time.monotonic())
        self.pace.measured((time.monotonic() - taken_at) / sum(ticket.rows for ticket in batch))

    def _run_group(
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
                self.dropped(ticket, ticket.dropped or "client_gone")
            return
        computed_at = time.monotonic()
        # Counted before it is answered, so that whoever has the answer finds it counted.
        for size, seconds in run_s:
            self._statistics.executed(size, (prepared_at - taken_at) / len(run_s), seconds)
        for ticket, rows in zip(tickets, row_ranges(inputs_of_each), strict=True):
            self._finish(ticket, outputs, rows, (taken_at, prepared_at, computed_at), run_s[0][0])

    def _run_in_parts(
        self, tickets: list[Ticket], inputs: Tensors, reason: str, run_s: list[tuple[int, float]]
    ) -> Tensors | None:
        """Return the outputs of all rows, at most max_batch in a run; None once nobody waits for them."""
        parts: list[Tensors] = []
        for part in chunks(inputs, self._max_batch):
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
        self._statistics.succeeded(ticket.rows, finished_at - ticket.submitted_at, timing, batch_size)
        self._in_flight.leave()
        ticket.future.set_result((value, timing))

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        if not isinstance(error, Problem):
            logger.error("inference failed", model=self._name, error=repr(error), exc_info=error)
            error = InferenceFailed(f"{self._name} failed on this picture; the server's log says why")
        self._statistics.failed(time.monotonic() - ticket.submitted_at)
        self._in_flight.leave()
        ticket.future.set_exception(error)

    def dropped(self, ticket: Ticket, reason: DropReason) -> None:
        """Count a ticket that will not be computed."""
        waited_s = time.monotonic() - ticket.submitted_at
        if reason == "client_gone":
            self._statistics.cancelled(waited_s)
        else:
            self._statistics.failed(waited_s)
        self._metrics.drop(reason)
        self._in_flight.leave()


def _prepare(ticket: Ticket) -> Tensors | Exception:
    try:
        inputs = ticket.work.prepare()
        if (rows := rows_of(inputs)) != ticket.rows:
            return ValueError(f"the work announced {ticket.rows} rows and brought {rows}")
    except Exception as error:  # noqa: BLE001 - one bad picture must not fail the batch it is in
        return error
    return inputs
