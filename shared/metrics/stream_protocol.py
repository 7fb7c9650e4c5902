"""Which windows, boxes and classes of a stream count, and what detections are ranked by.

Published numbers on event cameras follow the Prophesee protocol (specs/events.md section 10), which leaves
much out. `Protocol()` leaves out nothing; each thing that the published protocol does is one switch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.vision.boxes import Boxes, Detections

_ROUNDING_PX = 1e-3  # a width of exactly the minimum is x2 - x1 in float32, which may come out a bit smaller


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is compared with what. Raises ValueError for values that mean nothing.

    skip_us: only windows later than this count, from the recording's start; None: all.
    min_diagonal_px, min_side_px: truth and detections below either minimum are left out, in the pixels they
    are given in. time_tolerance_us: detections of all windows at most this far from a window's time are
    compared with its truth; 0: its own. ranking: what average precision ranks detections by; "score" is
    objectness · class probability, what is served. frames_without_truth: "drop" leaves windows out in which
    no truth box is left, so that detections there are never wrong. first_classes: only so many of the
    classes are evaluated; None: all. Boxes of the others still keep a window from being dropped.
    """

    skip_us: int | None = None
    min_diagonal_px: float = 0.0
    min_side_px: float = 0.0
    time_tolerance_us: int = 0
    ranking: Literal["score", "class_probability"] = "score"
    frames_without_truth: Literal["count", "drop"] = "count"
    first_classes: int | None = None

    def __post_init__(self) -> None:
        for name in ("skip_us", "min_diagonal_px", "min_side_px", "time_tolerance_us"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.first_classes is not None and self.first_classes < 1:
            raise ValueError(f"first_classes is {self.first_classes}; it must be 1 or more, or None for all")
        if self.ranking not in ("score", "class_probability"):
            raise ValueError(f"ranking is {self.ranking!r}; it must be 'score' or 'class_probability'")
        if self.frames_without_truth not in ("count", "drop"):
            raise ValueError(
                f"frames_without_truth is {self.frames_without_truth!r}; it must be 'count' or 'drop'"
            )

    def classes(self, class_names: Sequence[str]) -> list[str]:
        """The names that are evaluated."""
        return list(class_names[: self.first_classes])

    def large_enough(self, boxes: Boxes) -> NDArray[np.bool_]:
        """Which boxes [n, 4] xyxy reach both minima."""
        sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
        diagonal = np.hypot(sides[:, 0], sides[:, 1])
        return np.asarray(
            (diagonal >= self.min_diagonal_px - _ROUNDING_PX)
            & (sides.min(axis=1, initial=np.inf) >= self.min_side_px - _ROUNDING_PX)
        )


def _published(min_diagonal_px: float, min_side_px: float, classes: int) -> Protocol:
    return Protocol(
        skip_us=500_000,
        min_diagonal_px=min_diagonal_px,
        min_side_px=min_side_px,
        time_tolerance_us=50_000,
        ranking="class_probability",
        frames_without_truth="drop",
        first_classes=classes,
    )


# first_classes: the published evaluation has a fixed list of categories for each data set
PROPHESEE_GEN1 = _published(30, 10, 2)
PROPHESEE_GEN4 = _published(60, 20, 3)
PROPHESEE_GEN4_HALF = _published(30, 10, 3)

# By the names that commands take.
PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "all": Protocol(),
        "prophesee_gen1": PROPHESEE_GEN1,
        "prophesee_gen4": PROPHESEE_GEN4,
        "prophesee_gen4_half": PROPHESEE_GEN4_HALF,
    }
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One window: its detections with their class probabilities [n], truth, and which truth is at rest."""

    time_us: int
    detections: Detections
    class_probability: NDArray[np.float32]
    boxes: Boxes
    labels: NDArray[np.int64]
    at_rest: NDArray[np.bool_]


def counted_frames(frames: Sequence[Frame], protocol: Protocol) -> list[Frame]:
    """The frames of one recording, in order of time, as `protocol` compares them."""
    skip_us = protocol.skip_us
    late = [_large_enough(frame, protocol) for frame in frames if skip_us is None or frame.time_us > skip_us]
    counted = late if protocol.frames_without_truth == "count" else [f for f in late if len(f.boxes)]
    if protocol.time_tolerance_us:
        times = np.array([frame.time_us for frame in late], np.int64)
        counted = [_with_neighbours(frame, late, times, protocol.time_tolerance_us) for frame in counted]
    if protocol.first_classes is not None:
        counted = [_first_classes(frame, protocol.first_classes) for frame in counted]
    return counted


def _large_enough(frame: Frame, protocol: Protocol) -> Frame:
    return _select(frame, protocol.large_enough(frame.detections.boxes), protocol.large_enough(frame.boxes))


def _first_classes(frame: Frame, count: int) -> Frame:
    return _select(frame, frame.detections.labels < count, frame.labels < count)


def _select(frame: Frame, found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Frame:
    return Frame(
        frame.time_us,
        frame.detections.select(found),
        frame.class_probability[found],
        frame.boxes[truth],
        frame.labels[truth],
        frame.at_rest[truth],
    )


def _with_neighbours(
    frame: Frame, frames: Sequence[Frame], times: NDArray[np.int64], tolerance_us: int
) -> Frame:
    first, stop = (
        int(np.searchsorted(times, frame.time_us - tolerance_us, side="left")),
        int(np.searchsorted(times, frame.time_us + tolerance_us, side="right")),
    )
    near = frames[first:stop]
    detections = Detections(
        np.concatenate([other.detections.boxes for other in near]),
        np.concatenate([other.detections.scores for other in near]),
        np.concatenate([other.detections.labels for other in near]),
    )
    probability = np.concatenate([other.class_probability for other in near])
    return Frame(frame.time_us, detections, probability, frame.boxes, frame.labels, frame.at_rest)
