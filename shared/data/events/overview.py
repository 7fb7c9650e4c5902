"""What a recording holds: length, rate, sensor, repairs, boxes per class. Read in one pass."""

from collections.abc import Iterator
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
    brighter_share: float | None
    first_us: int | None
    last_us: int | None
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


class Tally:
    """Counts events while others read them: `through` passes a recording's chunks on."""

    def __init__(self) -> None:
        self.events = self.brighter = 0
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._slot, self._in_slot, self._peak = -1, 0, 0

    def through(self, chunks: Iterator[Events]) -> Iterator[Events]:
        """Yield the chunks unchanged."""
        for chunk in chunks:
            self._add(chunk)
            yield chunk

    @property
    def peak_rate(self) -> float:
        return max(self._peak, self._in_slot) / (_SLOT_US / 1e6)

    def _add(self, chunk: Events) -> None:
        self.events += len(chunk)
        self.brighter += int(np.count_nonzero(chunk.p))
        self.first_us = int(chunk.t[0]) if self.first_us is None else self.first_us
        self.last_us = int(chunk.t[-1])
        slots, counts = np.unique(chunk.t // _SLOT_US, return_counts=True)
        for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
            if slot != self._slot:
                self._peak = max(self._peak, self._in_slot)
                self._slot, self._in_slot = slot, 0
            self._in_slot += count


def overview(
    recording: Recording, tally: Tally, boxes: NDArray[np.void] | None, classes: ClassList | None,
    label_repairs: dict[str, int],
) -> Overview:  # fmt: skip
    """Put together what was counted, once all chunks were read.

    boxes: dtype `BOX`, or None without labels; without `classes` they are counted by id.
    """
    duration = (tally.last_us - tally.first_us) / 1e6 if tally.first_us is not None and tally.last_us else 0.0
    repairs = recording.repairs
    if boxes is not None and tally.last_us is not None:
        repairs.count(Repair.LABELS_AFTER_LAST_EVENT, labels_after(boxes, tally.last_us))
    return Overview(
        path=str(recording.path),
        format=recording.format,
        sensor=recording.size,
        events=tally.events,
        brighter_share=tally.brighter / tally.events if tally.events else None,
        first_us=tally.first_us,
        last_us=tally.last_us,
        duration_s=duration,
        mean_rate=tally.events / duration if duration else 0.0,
        peak_rate=tally.peak_rate,
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
