"""Which boxes training uses, and at which times: RVT's filters and label frames. Events spec, section 8."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.data.events.classes import ClassList
from shared.data.events.repairs import RecordingUnreadable

FIRST_LABEL_US = 100_000
TOLERANCE_US = 2_000
WIDE_SHARE = 0.9  # of the frame's width


@dataclass(frozen=True)
class LabelRules:
    """Filters of one data set, in pixels of the sensor and microseconds.

    min_side: both sides of a box reach it. min_diagonal: so does its diagonal. period_us: time between label
    frames, or None for the multiple of the labels' own spacing that is nearest to 100 ms (3 at 30 Hz, 6 at
    60 Hz, as RVT has it for 1 megapixel).
    """

    classes: ClassList
    min_side: float = 5
    min_diagonal: float = 0
    period_us: int | None = None


@dataclass(frozen=True)
class LabelFrames:
    """boxes of the label frames, those of one frame together. times: int64 [F], us, rising.

    first_box: int64 [F], index of each frame's first box. representations: int64 [R], us, rising, times at
    which windows of events end; frame_index: int64 [F], the one that belongs to each label frame.
    """

    boxes: NDArray[np.void]
    times: NDArray[np.int64]
    first_box: NDArray[np.int64]
    representations: NDArray[np.int64]
    frame_index: NDArray[np.int64]


def filter_boxes(
    boxes: NDArray[np.void], size: tuple[int, int], rules: LabelRules, *, training: bool, name: str
) -> tuple[NDArray[np.void], dict[str, int]]:
    """Return the boxes that stay and how many each filter took, in the order in which they are applied.

    size: (height, width) of the sensor; boxes are clipped to its corners 0..W-1, 0..H-1. training: also leave
    out boxes wider than 90 % of the frame. Raises RecordingUnreadable for a class id that the list lacks.
    """
    rules.classes.check(boxes["class_id"], name)
    height, width = size
    taken: dict[str, int] = {}

    def keep(which: NDArray[np.bool_], reason: str) -> None:
        nonlocal boxes
        taken[reason] = int(np.count_nonzero(~which))
        boxes = boxes[which]

    keep(boxes["class_id"] < len(rules.classes.names), "ignored_class")
    boxes = boxes.copy()
    for corner, side, limit in (("x", "w", width - 1), ("y", "h", height - 1)):
        start = np.clip(boxes[corner], 0, limit)
        end = np.clip(boxes[corner] + boxes[side], 0, limit)
        boxes[corner], boxes[side] = start, end - start
    keep((boxes["w"] > 0) & (boxes["h"] > 0), "outside_frame")
    large = (boxes["w"] >= rules.min_side) & (boxes["h"] >= rules.min_side)
    keep(large & (np.hypot(boxes["w"], boxes["h"]) >= rules.min_diagonal), "too_small")
    if training:
        keep(boxes["w"] <= WIDE_SHARE * width, "too_wide")
    return boxes, taken


def label_frames(boxes: NDArray[np.void], rules: LabelRules, *, window_us: int, name: str) -> LabelFrames:
    """Choose label frames from filtered boxes, sorted by time, and the times of the windows around them.

    The first label at or after 100 ms is kept, and every later one that lies within 2 ms of a multiple of the
    period from the last kept one. Windows end at the first label frame, before it in steps of `window_us` as
    long as the whole window lies after time zero, and evenly between label frames, as near to `window_us`
    apart as a whole number of them in a period allows (5 per 250 ms: the spec's rule for Gen1, not the 2 of
    RVT's script, which leaves events between windows unused). Raises RecordingUnreadable where no label is
    left.
    """
    times = np.unique(boxes["t"])
    late = times[times >= max(FIRST_LABEL_US, window_us)]
    if not len(late):
        raise RecordingUnreadable(
            f"{name}: no box is left after filtering (from {FIRST_LABEL_US // 1000} ms on)"
        )
    period = rules.period_us or _period_of(times)
    kept, periods = [int(late[0])], [0]
    for time in late[1:].tolist():
        distance = time - kept[-1]
        multiple = round(distance / period)
        if multiple and abs(distance - multiple * period) <= TOLERANCE_US:
            kept.append(time)
            periods.append(multiple)
    steps_per_period = max(1, round(period / window_us))
    windows = list(range(kept[0], window_us - 1, -window_us))[::-1]
    frame_index = [len(windows) - 1]
    for before, after, multiple in zip(kept[:-1], kept[1:], periods[1:], strict=True):
        steps = multiple * steps_per_period
        windows += [before + (after - before) * step // steps for step in range(1, steps + 1)]
        frame_index.append(len(windows) - 1)
    used = boxes[np.isin(boxes["t"], kept)]
    return LabelFrames(
        used,
        np.array(kept, np.int64),
        np.searchsorted(used["t"], kept).astype(np.int64),
        np.array(windows, np.int64),
        np.array(frame_index, np.int64),
    )


def _period_of(times: NDArray[np.int64]) -> int:
    gap = float(np.median(np.diff(times))) if len(times) > 1 else float(FIRST_LABEL_US)
    return round(max(1, round(FIRST_LABEL_US / gap)) * gap)
