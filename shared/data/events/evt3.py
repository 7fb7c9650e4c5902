"""EVT 3.0: words of 16 bits that change a state. docs.prophesee.ai, "EVT 3.0 Format".

The decoder runs no loop over words: for every word that stands for events, the state it meets (time, row,
base column) is the last word of the right kind before it, found by counting such words.
"""

import numpy as np
from numpy.typing import NDArray

from shared.data.events.chunk import RawChunk, latest_at
from shared.data.events.evt2 import unwrapped
from shared.data.events.repairs import Repair, Repairs

_ADDR_Y, _ADDR_X, _BASE_X, _VECT_12, _VECT_8, _TIME_LOW, _TIME_HIGH = 0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x8
_KNOWN = np.zeros(16, bool)
_KNOWN[[0x0, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xE, 0xF]] = True
_GIVES_EVENTS = np.zeros(16, bool)
_GIVES_EVENTS[[_ADDR_X, _VECT_12, _VECT_8]] = True
_WIDTH = np.zeros(16, np.int64)  # columns that a vector word moves the base by
_WIDTH[_VECT_12], _WIDTH[_VECT_8] = 12, 8
_HIGH_WRAP = 1 << 12  # the 24 bits of time last 16.8 s
_DISORDER = 16  # the format says that these words never fall: by more than 65 ms it is a wrap
_POLARITY_SHIFT = 40
_COLUMN = (1 << _POLARITY_SHIFT) - 1
_UNKNOWN = -(1 << 62)  # no base yet
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
        places = np.flatnonzero(_GIVES_EVENTS[kinds])
        time = self._times(places, kinds, values)
        self._row, row = _latest(places, kinds == _ADDR_Y, values & np.uint16(0x7FF), self._row)
        kind, value = kinds[places], values[places]
        is_vector = kind != _ADDR_X
        base = self._base_columns(places, kinds, values)

        mask = np.where(kind == _VECT_8, value & np.uint16(0xFF), value)
        counts = np.where(is_vector, _BITS[mask], 1)
        known = (time >= 0) & (row >= 0) & ((base >= 0) | ~is_vector)
        if not known.all():
            self._repairs.count(Repair.BEFORE_FIRST_TIME, int(counts[~known].sum()))
            counts = np.where(known, counts, 0)
        columns = np.where(is_vector, base, _packed(value))
        if is_vector.any() or not known.all():
            time, row, columns = (np.repeat(column, counts) for column in (time, row, columns))
            columns[np.repeat(is_vector, counts)] += _set_bits(mask[is_vector & known])
        return RawChunk(time, columns & _COLUMN, row, columns >> _POLARITY_SHIFT)

    def _times(
        self, places: NDArray[np.intp], kinds: NDArray[np.uint8], values: NDArray[np.uint16]
    ) -> NDArray[np.int64]:
        """Time at the places, -1 before both halves are known."""
        is_high = kinds == _TIME_HIGH
        highs, self._wraps = unwrapped(
            values[is_high].astype(np.int64), self._high, self._wraps, _HIGH_WRAP, _DISORDER
        )
        high = latest_at(places, is_high, highs, self._high)
        if len(highs):
            self._high = int(highs[-1])
        self._low, low = _latest(places, kinds == _TIME_LOW, values, self._low)
        return np.where((high >= 0) & (low >= 0), (high << 12) | low, -1)

    def _base_columns(
        self, places: NDArray[np.intp], kinds: NDArray[np.uint8], values: NDArray[np.uint16]
    ) -> NDArray[np.int64]:
        """Base column and polarity that the words at the places meet, as `_packed`; -1 before the first.

        A base may run past 2047: such events lie beyond any sensor and are left out later.
        """
        is_base = kinds == _BASE_X
        widths = _WIDTH[kinds]
        moves = np.cumsum(widths)
        bases = _packed(values[is_base])
        # A base as it would have been at the start of the piece, so that the moves up to a word lead to it.
        origins = bases - moves[is_base]
        origin = latest_at(places, is_base, origins, self._base if self._base >= 0 else _UNKNOWN)
        if len(bases):
            self._base = int(origins[-1] + moves[-1])
        elif self._base >= 0 and len(moves):
            self._base += int(moves[-1])
        return np.where(origin == _UNKNOWN, -1, origin + (moves - widths)[places])


def _latest(
    places: NDArray[np.intp], where: NDArray[np.bool_], values: NDArray[np.uint16], before: int
) -> tuple[int, NDArray[np.int64]]:
    """The last of the values marked, for the next piece, and the latest at every place."""
    found = values[where].astype(np.int64)
    return (int(found[-1]) if len(found) else before), latest_at(places, where, found, before)


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
