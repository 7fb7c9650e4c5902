"""Bring decoded events into order and range, counting what had to be changed."""

import numpy as np
from numpy.typing import NDArray

from shared.data.events.chunk import RawChunk
from shared.data.events.repairs import RecordingUnreadable, Repair, Repairs
from shared.vision.events import Events

# Cameras deliver some events late, by milliseconds; a clock that goes back further was set anew.
MAX_BACKWARDS_US = 1_000_000
MIN_JUDGED = 1000  # fewer events say nothing about a whole file


class Cleaner:
    """Makes `Events` of raw chunks of one recording, in their order.

    Times are made non-decreasing by a running maximum (events spec, section 7), polarity -1 becomes 0, and
    events beyond the sensor or before time zero are left out. Raises RecordingUnreadable where that would
    hide more than it mends: a clock that falls back by more than a second, or a file most of whose events lie
    beyond the sensor or have no polarity.
    """

    def __init__(self, name: str, size: tuple[int, int], repairs: Repairs) -> None:
        self._name, self._size, self._repairs = name, size, repairs
        self._latest = 0
        self._seen = self._outside = self._polarity = 0

    def clean(self, chunk: RawChunk) -> Events:
        """Return the usable events of the next chunk. Raises RecordingUnreadable."""
        t = chunk.t.astype(np.int64)
        p = chunk.p.astype(np.int64) if chunk.p.dtype != np.bool_ else chunk.p.astype(np.uint8)
        height, width = self._size
        inside = (chunk.x < width) & (chunk.y < height)
        for column in (chunk.x, chunk.y):
            if column.dtype.kind == "i":
                inside &= column >= 0
        usable = inside & (t >= 0)
        outside = len(chunk) - int(np.count_nonzero(inside))
        wrong = (p < -1) | (p > 1)
        polarity = int(np.count_nonzero(wrong))
        self._repairs.count(Repair.OUTSIDE_SENSOR, outside)
        self._repairs.count(Repair.NEGATIVE_TIME, int(np.count_nonzero(inside & (t < 0))))
        self._repairs.count(Repair.POLARITY, polarity)
        first = self._seen
        self._seen += len(chunk)
        self._outside += outside
        self._polarity += polarity
        t = self._in_order(t, usable, first)
        events = Events(
            t, chunk.x.astype(np.uint16), chunk.y.astype(np.uint16), np.clip(p, 0, 1).astype(np.uint8)
        )
        if self._seen >= MIN_JUDGED:
            self.judge()
        return events if usable.all() else events[usable]

    def judge(self) -> None:
        """Raise RecordingUnreadable if most events so far could not be right."""
        height, width = self._size
        if 2 * self._outside > self._seen:
            raise RecordingUnreadable(
                f"{self._name}: {self._outside} of {self._seen} events lie beyond a sensor of "
                f"{height} x {width} (height x width): that size is wrong, or the file; give the right one "
                "with --sensor"
            )
        if 2 * self._polarity > self._seen:
            raise RecordingUnreadable(
                f"{self._name}: {self._polarity} of {self._seen} polarities are none of -1, 0 and 1; "
                "the polarity column holds something else"
            )

    def _in_order(self, t: NDArray[np.int64], usable: NDArray[np.bool_], first: int) -> NDArray[np.int64]:
        if not len(t):
            return t
        ordered = np.maximum.accumulate(np.where(usable, t, 0))
        np.maximum(ordered, self._latest, out=ordered)
        back = np.where(usable, ordered - t, 0)
        worst = int(back.argmax())
        if back[worst] > MAX_BACKWARDS_US:
            raise RecordingUnreadable(
                f"{self._name}: event {first + worst} is at {int(t[worst])} us, {int(back[worst]) / 1e6:.3f} "
                "s earlier than one before it; the clock was set back, or several recordings were joined: "
                "cut the file there"
            )
        self._repairs.count(Repair.TIME_BACKWARDS, int(np.count_nonzero(back)))
        self._latest = int(ordered[-1])
        return ordered
