"""What a stream answers to a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.detector.dataplane.work import Timing
from shared.vision.boxes import Detections


@dataclass(frozen=True, slots=True)
class WindowAnswer:
    """Detections of one window, in pixels of the sensor; the window's times in microseconds."""

    index: int
    start_us: int
    end_us: int
    detections: Detections


@dataclass(frozen=True, slots=True)
class ChunkAnswer:
    """Answers for the windows that a chunk completed, oldest first; timing: the sums over them."""

    sequence: int
    windows: tuple[WindowAnswer, ...]
    timing: Timing


def total(timings: Sequence[Timing]) -> Timing:
    """Return the sum of each stage."""
    return Timing(
        queue_s=sum(timing.queue_s for timing in timings),
        preprocess_s=sum(timing.preprocess_s for timing in timings),
        compute_s=sum(timing.compute_s for timing in timings),
        postprocess_s=sum(timing.postprocess_s for timing in timings),
    )
