"""Events as a decoder finds them, before anything about them is believed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_EVENTS = 1 << 20  # read at once; 100 MB at most, decoding included


@dataclass(frozen=True, slots=True)
class RawChunk:
    """Columns of equal length, whole numbers of any width, in the order of the file. t in microseconds."""

    t: NDArray[Any]
    x: NDArray[Any]
    y: NDArray[Any]
    p: NDArray[Any]

    def __len__(self) -> int:
        return len(self.t)


def latest_at(
    places: NDArray[np.intp], where: NDArray[np.bool_], values: NDArray[np.int64], before: int
) -> NDArray[np.int64]:
    """Return for every place the last of `values` at or before it; `values` has one per True in `where`.

    `before` stands where none came yet.
    """
    return np.concatenate(([before], values))[np.cumsum(where, dtype=np.int32)[places]]
