"""EVT 2.0: words of 32 bits. docs.prophesee.ai, "EVT 2.0 Format"."""

import numpy as np
from numpy.typing import NDArray

from shared.data.events.chunk import RawChunk, latest_at
from shared.data.events.repairs import Repair, Repairs

_CD_ON, _TIME_HIGH = 0x1, 0x8
_KNOWN = np.zeros(16, bool)
_KNOWN[[0x0, 0x1, 0x8, 0xA, 0xE, 0xF]] = True  # triggers and vendor words are no events
_HIGH_WRAP = 1 << 28  # 34 bits of time last 4.8 hours
_LATE = 16  # time words that may come late over a wrap


class Evt2Decoder:
    """Decodes words in pieces; the time carries over from one piece to the next."""

    word = np.dtype("<u4")

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs
        self._high = -1  # upper 28 bits of the time, wraps of its 34 bits included; -1 before the first
        self._wraps = 0

    def decode(self, words: NDArray[np.uint32]) -> RawChunk:
        """Return the events of the next words."""
        kinds = (words >> np.uint32(28)).astype(np.uint8)
        self._repairs.count(Repair.UNKNOWN_WORDS, int(np.count_nonzero(~_KNOWN[kinds])))
        is_time = kinds == _TIME_HIGH
        highs, self._wraps = unwrapped(
            (words[is_time] & np.uint32(0x0FFFFFFF)).astype(np.int64),
            self._high,
            self._wraps,
            _HIGH_WRAP,
            _HIGH_WRAP // 2,
        )
        places = np.flatnonzero(kinds <= _CD_ON)
        high = latest_at(places, is_time, highs, self._high)
        if len(highs):
            self._high = int(highs[-1])
        events = words[places]
        timed = high >= 0
        if not timed.all():
            self._repairs.count(Repair.BEFORE_FIRST_TIME, int(np.count_nonzero(~timed)))
            events, high = events[timed], high[timed]
        t = (high << 6) | ((events >> np.uint32(22)) & np.uint32(0x3F))
        return RawChunk(t, (events >> np.uint32(11)) & np.uint32(0x7FF), events & np.uint32(0x7FF),
                        events >> np.uint32(28))  # fmt: skip


def unwrapped(
    highs: NDArray[np.int64], before: int, wraps: int, period: int, disorder: int
) -> tuple[NDArray[np.int64], int]:
    """Undo the wrap of a counter that runs from 0 to period - 1.

    before: the last unwrapped value, or -1; wraps: how often it had wrapped by then. A fall by more than
    `disorder` is a wrap, and a rise by nearly a period takes the last one back; smaller falls stay as they
    are. Returns the values and the new number of wraps.
    """
    if not len(highs):
        return highs, wraps
    last = before - wraps * period if before >= 0 else int(highs[0])
    steps = np.diff(highs, prepend=last)
    turns = (steps < -disorder).astype(np.int64)
    if wraps or turns.any():
        turns -= steps > period - _LATE
    total = np.maximum(wraps + np.cumsum(turns), 0)
    return highs + total * period, int(total[-1])
