"""Events in HDF5: columns as RVT and eTraM keep them, or Metavision's compound records.

Components spec, section 16.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 - registers Blosc, Zstandard and others with h5py
import numpy as np

from shared.data.events.chunk import CHUNK_EVENTS, RawChunk
from shared.data.events.repairs import RecordingUnreadable, Repair, Repairs

_COLUMNS = ("t", "x", "y", "p")
_FILTERS = {
    0x8ECF: "ECF, Prophesee's codec: install its hdf5_ecf plugin and set HDF5_PLUGIN_PATH to its folder",
    32001: "Blosc: pip install hdf5plugin",
}


class Hdf5File:
    """An HDF5 file of events. `size` is (height, width) where the file states it.

    Raises RecordingUnreadable for what HDF5 cannot open (a truncated file among them), a file without events
    in either layout, columns that are not whole numbers, and data whose compression filter is not installed.
    """

    format = "hdf5"

    def __init__(self, path: Path, repairs: Repairs) -> None:
        self.path, self._repairs = path, repairs
        with self._open() as file:
            columns = self._columns(file)
            lengths = [len(column) for column in columns.values()]
            self.size = _size(file)
        self._length = min(lengths)
        self._surplus = sum(lengths) - self._length * len(lengths)
        if not self._length:
            raise RecordingUnreadable(f"{path} holds no event")

    def chunks(self) -> Iterator[RawChunk]:
        """Yield the events in the order of the file."""
        self._repairs.count(Repair.UNEQUAL_COLUMNS, self._surplus)
        with self._open() as file:
            columns = self._columns(file)
            for start in range(0, self._length, CHUNK_EVENTS):
                part = slice(start, min(start + CHUNK_EVENTS, self._length))
                try:
                    yield RawChunk(**_read(columns, part))
                except OSError as error:
                    raise RecordingUnreadable(
                        f"{self.path}: events {part.start} to {part.stop} cannot be read ({error}); the file "
                        "is damaged or was cut off"
                    ) from error

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            raise RecordingUnreadable(
                f"{self.path} is not a whole HDF5 file ({error}); copy or download it again"
            ) from error

    def _columns(self, file: h5py.File) -> dict[str, Any]:
        """Datasets by column; in the compound layout all columns are one dataset, under the name ""."""
        columns: dict[str, Any]
        if isinstance(records := file.get("CD/events"), h5py.Dataset):
            columns, fields = {"": records}, records.dtype.fields or {}
            kinds = {name: fields[name][0] for name in _COLUMNS if name in fields}
        else:
            group = file.get("events")
            found = group if isinstance(group, h5py.Group) else {}
            columns = {name: found[name] for name in _COLUMNS if name in found}
            kinds = {name: column.dtype for name, column in columns.items()}
        missing = [name for name in _COLUMNS if name not in kinds]
        if missing:
            raise RecordingUnreadable(
                f"{self.path} has neither events/{{t,x,y,p}} nor CD/events with these fields; missing: "
                f"{', '.join(missing)}; it holds {', '.join(file) or 'nothing'}"
            )
        for name, kind in kinds.items():
            if kind.kind not in "iub":
                raise RecordingUnreadable(f"{self.path}: column {name} holds {kind}, not whole numbers")
        for column in columns.values():
            self._check_filters(column)
        return columns

    def _check_filters(self, column: h5py.Dataset) -> None:
        plist = column.id.get_create_plist()
        for number in range(plist.get_nfilters()):
            code = plist.get_filter(number)[0]
            if not h5py.h5z.filter_avail(code):
                name = _FILTERS.get(code, "see the list of registered filters of the HDF Group")
                raise RecordingUnreadable(
                    f"{self.path} is compressed with HDF5 filter {code}, which is not installed ({name})"
                )


def _read(columns: dict[str, Any], part: slice) -> dict[str, Any]:
    if "" in columns:
        records = columns[""][part]
        return {name: records[name] for name in _COLUMNS}
    return {name: columns[name][part] for name in _COLUMNS}


def _size(file: h5py.File) -> tuple[int, int] | None:
    for group in ("events", ""):
        sides = [file.get(f"{group}/{name}") for name in ("height", "width")]
        if all(isinstance(side, h5py.Dataset) and side.size == 1 for side in sides):
            height, width = (int(np.asarray(side[()]).reshape(())) for side in sides)
            return (height, width) if height > 0 and width > 0 else None
    attributes = file.attrs
    geometry = attributes.get("geometry", "")
    text = geometry.decode() if isinstance(geometry, bytes) else str(geometry)
    if match := re.fullmatch(r"(\d+)x(\d+)", text):
        return int(match[2]), int(match[1])
    if "height" in attributes and "width" in attributes:
        return int(attributes["height"]), int(attributes["width"])
    return None
