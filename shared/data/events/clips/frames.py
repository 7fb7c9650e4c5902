"""The frames of one preprocessed recording: read from its file, or kept in memory as what is not zero."""

import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import hdf5plugin  # noqa: F401 - h5py finds Blosc through it
import numpy as np
from numpy.typing import NDArray

from shared.data.formats.errors import DatasetUnreadable

OPEN_FILES = 16
DATASET = "data"


class Frames(Protocol):
    """shape: (windows, channels, height, width). dtype: uint8 or int8."""

    @property
    def shape(self) -> tuple[int, int, int, int]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, out: NDArray[Any], start: int) -> None:
        """Fill `out` [n, channels, height, width] with the windows from `start` on.

        Raises DatasetUnreadable for a file that cannot be read, or that changed since the set was read.
        """


class OpenFiles:
    """HDF5 files held open for reading, at most `limit`, the one unused for longest closed first.

    Every process opens its own: a copy in another process starts empty. Not for several threads at once.
    """

    def __init__(self, limit: int = OPEN_FILES) -> None:
        self._limit = limit
        self._files: OrderedDict[Path, h5py.File] = OrderedDict()
        self._process = os.getpid()
        self._inherited: list[h5py.File] = []

    def dataset(self, path: Path) -> h5py.Dataset:
        """Return the frames in the file at `path`. Raises OSError or KeyError where there are none."""
        if self._process != os.getpid():
            # The process before the fork closes its files; closing them here too could wait for its locks.
            self._inherited += self._files.values()
            self._files, self._process = OrderedDict(), os.getpid()
        file = self._files.pop(path, None)
        if file is None:
            # Frames are read once each: HDF5's own cache of chunks would only copy them.
            file = h5py.File(path, "r", rdcc_nbytes=0)
        self._files[path] = file
        if len(self._files) > self._limit:
            self._files.popitem(last=False)[1].close()
        return file[DATASET]

    def __len__(self) -> int:
        return len(self._files)

    def close(self) -> None:
        """Close what this process opened; reading opens it again."""
        if self._process == os.getpid():
            for file in self._files.values():
                file.close()
        self._files.clear()

    def __getstate__(self) -> int:
        return self._limit

    def __setstate__(self, limit: int) -> None:
        self.__init__(limit)  # type: ignore[misc]


@dataclass(frozen=True)
class StoredFrames:
    """Frames in a file, opened at the first reading."""

    path: Path
    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    files: OpenFiles

    def read(self, out: NDArray[Any], start: int) -> None:
        try:
            data = self.files.dataset(self.path)
            if data.shape != self.shape or data.dtype != self.dtype:
                raise DatasetUnreadable(f"{self.path} changed while it was in use")
            data.read_direct(out, np.s_[start : start + len(out)])
        except (OSError, KeyError) as error:
            raise DatasetUnreadable(f"{self.path} cannot be read: {error}") from error


@dataclass(frozen=True)
class SparseFrames:
    """Frames in memory as the places that are not zero: few pixels have events, so they take little.

    places: uint32 [K], indices into a frame laid out in a row; values: [K]; starts: int64 [windows + 1],
    where each window's begin in both.
    """

    shape: tuple[int, int, int, int]
    dtype: np.dtype[Any]
    places: NDArray[np.uint32]
    values: NDArray[Any]
    starts: NDArray[np.int64]

    @property
    def nbytes(self) -> int:
        return self.places.nbytes + self.values.nbytes + self.starts.nbytes

    def read(self, out: NDArray[Any], start: int) -> None:
        out.fill(0)
        for frame, first, last in zip(
            out, self.starts[start:].tolist(), self.starts[start + 1 :].tolist(), strict=False
        ):
            frame.reshape(-1)[self.places[first:last]] = self.values[first:last]


def sparse(frames: Frames) -> SparseFrames:
    """Return the same frames in memory. Raises what reading them raises."""
    frame = np.empty((1, *frames.shape[1:]), frames.dtype)
    places, values, starts = [], [], [0]
    for window in range(frames.shape[0]):
        frames.read(frame, window)
        flat = frame.reshape(-1)
        here = np.flatnonzero(flat != 0)
        places.append(here.astype(np.uint32))
        values.append(flat[here])
        starts.append(starts[-1] + len(here))
    return SparseFrames(
        frames.shape, frames.dtype, np.concatenate(places), np.concatenate(values), np.array(starts, np.int64)
    )
