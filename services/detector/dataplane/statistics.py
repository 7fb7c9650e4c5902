"""Counts and times of one loaded version since it was loaded, as inference servers report them.

What each number means: Triton's extension_statistics.md. Times are integers in nanoseconds.
"""

import copy
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field

from services.detector.dataplane.work import Timing


@dataclass(slots=True)
class Duration:
    """How often something happened, and how long that took altogether."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float) -> None:
        self.count += 1
        self.ns += int(seconds * 1e9)


@dataclass(slots=True)
class BatchDurations:
    """The runs of one batch size: getting the inputs ready, the run itself, answers from the outputs."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Snapshot:
    """`success` and the stages count answered requests, `fail` those that ended in a problem (refused and
    expired ones included), `cancel` those whose client went before compute."""

    inference_count: int = 0  # rows
    execution_count: int = 0  # runs of the graph
    last_inference_ms: int = 0  # milliseconds since the epoch; 0 before the first
    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)
    cancel: Duration = field(default_factory=Duration)
    batch_stats: dict[int, BatchDurations] = field(default_factory=dict)


class Statistics:
    """Counts of one version; every method is short and may come from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals = Snapshot()
        self._batches: dict[int, BatchDurations] = defaultdict(BatchDurations)

    def succeeded(self, rows: int, total_s: float, timing: Timing, batch_size: int) -> None:
        """Count one answered request of `rows` rows, `total_s` seconds after it came, run in `batch_size`."""
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            totals = self._totals
            totals.inference_count += rows
            totals.last_inference_ms = now_ms
            totals.success.add(total_s)
            totals.queue.add(timing.queue_s)
            totals.compute_input.add(timing.preprocess_s)
            totals.compute_infer.add(timing.compute_s)
            totals.compute_output.add(timing.postprocess_s)
            self._batches[batch_size].compute_output.ns += int(timing.postprocess_s * 1e9)

    def failed(self, total_s: float = 0.0) -> None:
        """Count one request that ended in a problem."""
        with self._lock:
            self._totals.fail.add(total_s)

    def cancelled(self, total_s: float) -> None:
        """Count one request whose client went before compute."""
        with self._lock:
            self._totals.cancel.add(total_s)

    def executed(self, size: int, input_s: float, infer_s: float) -> None:
        """Count one run of the graph on `size` rows; its answers add their time as they are made."""
        with self._lock:
            self._totals.execution_count += 1
            durations = self._batches[size]
            durations.compute_input.add(input_s)
            durations.compute_infer.add(infer_s)
            durations.compute_output.count += 1

    def snapshot(self) -> Snapshot:
        """Return a copy of all numbers as they are now."""
        with self._lock:
            totals = copy.deepcopy(self._totals)
            totals.batch_stats = {size: copy.deepcopy(one) for size, one in sorted(self._batches.items())}
        return totals
