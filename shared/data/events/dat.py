"""Prophesee's `.dat`: decoded events of 8 bytes. docs.prophesee.ai, "DAT File Format"."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.data.events.chunk import CHUNK_EVENTS, RawChunk
from shared.data.events.file_header import FileHeader, read_header
from shared.data.events.repairs import RecordingUnreadable, Repair, Repairs

_RECORD = np.dtype([("t", "<u4"), ("word", "<u4")])
_EVENT_TYPES = {0: "2D", 12: "CD"}
_WRAP = 1 << 32  # microseconds, 71.6 minutes


class DatFile:
    """A `.dat` file. `size` is (height, width) where the header states it.

    The header is optional; without one the records start at once. Raises RecordingUnreadable for an empty
    file, another kind of event, or a format version that lays out events otherwise.
    """

    format = "dat"

    def __init__(self, path: Path, repairs: Repairs) -> None:
        self.path, self._repairs = path, repairs
        header = read_header(path)
        self.size = header.size()
        self._start = self._data_start(header)
        payload = path.stat().st_size - self._start
        if payload < _RECORD.itemsize:
            raise RecordingUnreadable(f"{path} holds no event ({max(payload, 0)} bytes of data)")
        self._records, rest = divmod(payload, _RECORD.itemsize)
        self._rest = rest

    def chunks(self) -> Iterator[RawChunk]:
        """Yield the events; the wrap of the 32-bit clock is undone."""
        self._repairs.count(Repair.CUT_OFF, self._rest)
        wraps, last = 0, 0
        with self.path.open("rb") as file:
            file.seek(self._start)
            left = self._records
            while left:
                records = np.fromfile(file, _RECORD, min(left, CHUNK_EVENTS))
                if not len(records):
                    raise RecordingUnreadable(f"{self.path} became shorter while it was read")
                left -= len(records)
                t = records["t"].astype(np.int64)
                falls = np.diff(t, prepend=last) < -(_WRAP // 2)
                last = int(t[-1])
                t += (wraps + np.cumsum(falls)) * _WRAP
                wraps += int(np.count_nonzero(falls))
                word = records["word"]
                yield RawChunk(t, word & 0x3FFF, (word >> 14) & 0x3FFF, word >> 28)

    def _data_start(self, header: FileHeader) -> int:
        if not header.present:
            return 0
        version = header.fields.get("version", "2")
        if version != "2":
            raise RecordingUnreadable(f"{self.path} has .dat version {version}; only version 2 can be read")
        with self.path.open("rb") as file:
            file.seek(header.data_start)
            kind = file.read(2)
        if len(kind) < 2:
            raise RecordingUnreadable(f"{self.path} ends after its header and holds no event")
        if kind[0] not in _EVENT_TYPES or kind[1] != _RECORD.itemsize:
            raise RecordingUnreadable(
                f"{self.path} holds events of type {kind[0]} with {kind[1]} bytes; types 0 and 12 (changes "
                "of brightness) with 8 bytes can be read"
            )
        return header.data_start + 2
