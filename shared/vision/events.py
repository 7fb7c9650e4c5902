"""Events of an event camera as columns: one array per field, oldest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Events:
    """Changes of brightness, in order of time.

    t: int64 [N], microseconds, never falling. x, y: uint16 [N], column and row from the top left pixel.
    p: uint8 [N], 1 where the pixel became brighter, 0 where it became darker. Nothing is checked here beyond
    the lengths (ValueError): readers bring files into this form, and what counts events checks their range.
    """

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if not len(self.t) == len(self.x) == len(self.y) == len(self.p):
            raise ValueError(
                f"t, x, y and p must be equally long, got {len(self.t)}, {len(self.x)}, {len(self.y)} and "
                f"{len(self.p)}"
            )

    def __len__(self) -> int:
        return len(self.t)

    def __getitem__(self, which: slice | NDArray[np.intp] | NDArray[np.bool_]) -> "Events":
        """The events of a slice (without copying), of indices or of a mask."""
        return Events(self.t[which], self.x[which], self.y[which], self.p[which])

    def between(self, start_us: int, end_us: int) -> "Events":
        """The events with start_us <= t <= end_us, without copying."""
        first = int(np.searchsorted(self.t, start_us, side="left"))
        return self[first : int(np.searchsorted(self.t, end_us, side="right"))]

    @classmethod
    def empty(cls) -> Self:
        """No events."""
        return cls(
            np.empty(0, np.int64), np.empty(0, np.uint16), np.empty(0, np.uint16), np.empty(0, np.uint8)
        )

    @classmethod
    def join(cls, parts: "Sequence[Events]") -> "Events":
        """The events of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty()
        columns = ([getattr(part, name) for part in parts] for name in ("t", "x", "y", "p"))
        return cls(*(np.concatenate(column) for column in columns))
