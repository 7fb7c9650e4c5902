"""EVT 3.0: words of 16 bits that change a state. docs.prophesee.ai, "EVT 3.0 Format".

The decoder runs no loop over words: for every word that stands for events, the state it meets (time, row,
base column) is the last word of the right kind before it, found by counting such words.
"""

import numpy as np
from numpy.typing import NDArray

from shared.data.events.chunk import RawChunk, forward_filled
from shared.data.events.evt2 import unwrapped
from shared.data.events.repairs import Repair, Repairs

_ADDR_Y, _ADDR_X, _BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_KNOWN = np.zeros(16, bool)
_KNOWN[[0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF]] = True
_WIDTH = np.zeros(16, np.int64)  # columns that a vector word moves the base by
_WIDTH[_VECT_12], _WIDTH[_VECT_8] = 12, 8
_HIGH_WRAP = 1 << 12  # the 24 bits of time last 16.8 s
_DISORDER = 16  # the format says that these words never fall: by more than 65 ms it is a wrap
_POLARITY_SHIFT = 40
_COLUMN = (1 << _POLARITY_SHIFT) - 1
_BITS = np.array([bin(mask).count("1") for mask in range(1 << 12)], np.uint8)


class Evt3Decoder:
    """Decodes words in pieces; time, row and base column carry over from one piece to the next."""

    word = np.dtype("<u2")

    def __init__(self, repairs: Repairs) -> None:
        self._repairs = repairs
        self._high = self._low = self._row = self._base = -1  # -1 before the first
        self._wraps = 0

    def decode(self, words: NDArray[np.uint16]) -> RawChunk:
        """Return the events of the next words, those of a vector in the order of their columns."""
        kinds = (words >> np.uint16(12)).astype(np.uint8)
        values = words & np.uint16(0xFFF)
        self._repairs.count(Repair.UNKNOWN_WORDS, int(np.count_nonzero(~_KNOWN[kinds])))
        is_event = (kinds == _ADDR_X) | (kinds == _VECT_12) | (kinds == _VECT_8)
        time = self._times(kinds, values, is_event)
        row = self._last(kinds == _ADDR_Y, values & np.uint16(0x7FF), "_row")[is_event]
        base = self._base_columns(kinds, values)[is_event]

        kind, value = kinds[is_event], values[is_event]
        is_vector = kind != _ADDR_X
        mask = np.where(kind == _VECT_8, value & np.uint16(0xFF), value)
        counts = np.where(is_vector, _BITS[mask], 1)
        known = (time >= 0) & (row >= 0) & ((base >= 0) | ~is_vector)
        if not known.all():
            self._repairs.count(Repair.BEFORE_FIRST_TIME, int(counts[~known].sum()))
            counts = np.where(known, counts, 0)
        columns = np.repeat(np.where(is_vector, base, _packed(value)), counts)
        columns[np.repeat(is_vector, counts)] += _set_bits(mask[is_vector & known])
        return RawChunk(
            np.repeat(time, counts), columns & _COLUMN, np.repeat(row, counts), columns >> _POLARITY_SHIFT
        )

    def _times(
        self, kinds: NDArray[np.uint8], values: NDArray[np.uint16], is_event: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Time at every event word, -1 before both halves are known."""
        is_high = kinds == _TIME_HIGH
        highs, self._wraps = unwrapped(
            values[is_high].astype(np.int64), self._high, self._wraps, _HIGH_WRAP, _DISORDER
        )
        high = forward_filled(highs, is_high, self._high)[is_event]
        if len(highs):
            self._high = int(highs[-1])
        low = self._last(kinds == _TIME_LOW, values, "_low")[is_event]
        return np.where((high >= 0) & (low >= 0), (high << 12) | low, -1)

    def _last(self, where: NDArray[np.bool_], values: NDArray[np.uint16], state: str) -> NDArray[np.int64]:
        found = values[where].astype(np.int64)
        filled = forward_filled(found, where, getattr(self, state))
        if len(found):
            setattr(self, state, int(found[-1]))
        return filled

    def _base_columns(self, kinds: NDArray[np.uint8], values: NDArray[np.uint16]) -> NDArray[np.int64]:
        """Base column and polarity that each word meets, as `_packed`; -1 before the first.

        A base may run past 2047: such events lie beyond any sensor and are left out later.
        """
        is_base = kinds == _BASE_X
        moves = np.cumsum(_WIDTH[kinds])
        moved_before = moves - _WIDTH[kinds]
        bases = _packed(values[is_base])
        # What a base is at later words: itself plus the moves since.
        since = forward_filled(bases - moved_before[is_base], is_base, 0)
        seen = np.cumsum(is_base) > 0
        met = since + moved_before
        met = np.where(seen, met, self._base + moved_before if self._base >= 0 else -1)
        if len(bases):
            self._base = int(bases[-1] - moved_before[is_base][-1] + moves[-1])
        elif self._base >= 0 and len(moves):
            self._base += int(moves[-1])
        return met


def _packed(values: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Column (bits 0 to 10 of a word) and polarity (bit 11) in one number; the column has room to grow."""
    wide = values.astype(np.int64)
    return (wide & 0x7FF) | (wide >> 11 << _POLARITY_SHIFT)


def _set_bits(masks: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Places of the set bits of every mask, lowest first, one mask after the other."""
    if not len(masks):
        return np.empty(0, np.int64)
    bits = np.unpackbits(masks.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")
    return np.nonzero(bits)[1]
