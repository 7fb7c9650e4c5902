"""What a recording holds: length, rate, sensor, repairs, boxes per class. Read in one pass."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.events.classes import ClassList
from shared.data.events.labels import labels_after
from shared.data.events.recording import Recording
from shared.data.events.repairs import Repair
from shared.vision.events import Events


@dataclass(frozen=True)
class Overview:
    """sensor: (height, width). Rates in events per second; the peak is that of the busiest 50 ms.

    boxes_per_class and label_times are None where there are no labels. repairs: counts by kind.
    """

    path: str
    format: str
    sensor: tuple[int, int]
    events: int
    brighter_share: float
    first_us: int
    last_us: int
    duration_s: float
    mean_rate: float
    peak_rate: float
    boxes: int | None
    label_times: int | None
    boxes_per_class: dict[str, int] | None
    repairs: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Field by field, as JSON values."""
        return asdict(self)


_SLOT_US = 50_000


class _Tally:
    def __init__(self) -> None:
        self.events = self.brighter = self.busiest = 0
        self.first_us, self.last_us = -1, -1
        self._slot, self._in_slot = -1, 0

    def add(self, chunk: Events) -> None:
        self.events += len(chunk)
        self.brighter += int(np.count_nonzero(chunk.p))
        self.first_us = int(chunk.t[0]) if self.first_us < 0 else self.first_us
        self.last_us = int(chunk.t[-1])
        slots, counts = np.unique(chunk.t // _SLOT_US, return_counts=True)
        for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
            self._in_slot = self._in_slot + count if slot == self._slot else count
            self._slot = slot
            self.busiest = max(self.busiest, self._in_slot)


def overview(
    recording: Recording,
    boxes: NDArray[np.void] | None,
    classes: ClassList | None,
    label_repairs: dict[str, int],
) -> Overview:
    """Read a recording to its end and count.

    boxes: dtype `BOX`, or None without labels; without `classes` they are counted by id. label_repairs:
    counts from the reading of the boxes. Raises RecordingUnreadable for an unusable recording.
    """
    tally = _Tally()
    for chunk in recording.chunks():  # there is one at least
        tally.add(chunk)
    duration = (tally.last_us - tally.first_us) / 1e6
    repairs = recording.repairs
    if boxes is not None:
        repairs.count(Repair.LABELS_AFTER_LAST_EVENT, labels_after(boxes, tally.last_us))
    return Overview(
        path=str(recording.path),
        format=recording.format,
        sensor=recording.size,
        events=tally.events,
        brighter_share=tally.brighter / tally.events,
        first_us=tally.first_us,
        last_us=tally.last_us,
        duration_s=duration,
        mean_rate=tally.events / duration if duration else 0.0,
        peak_rate=tally.busiest / (_SLOT_US / 1e6),
        boxes=None if boxes is None else len(boxes),
        label_times=None if boxes is None else len(np.unique(boxes["t"])),
        boxes_per_class=None if boxes is None else _per_class(boxes, classes),
        repairs={**label_repairs, **repairs.as_dict()},
    )


def _per_class(boxes: NDArray[np.void], classes: ClassList | None) -> dict[str, int]:
    ids, counts = np.unique(boxes["class_id"], return_counts=True)
    counted = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    if classes is None:
        return {str(number): count for number, count in counted.items()}
    named = {name: counted.pop(number, 0) for number, name in enumerate(classes.names)}
    return named | {str(number): count for number, count in counted.items()}
