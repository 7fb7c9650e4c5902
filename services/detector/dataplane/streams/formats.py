"""From the bytes of a chunk to events or whole windows, by its media type.

Readers are values: reading returns the next reader, and a chunk that failed is undone by keeping the old one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.streams.problems import WrongChunk
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from shared.vision.events import Events

EVENTS = "application/vnd.sightline.events"
DAT = "application/vnd.prophesee.dat"
HISTOGRAMS = "application/vnd.sightline.histograms"

EVENT_RECORD = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])
_DAT_RECORD = np.dtype([("t", "<u4"), ("word", "<u4")])
_WRAP = 1 << 32  # microseconds, 71.6 minutes
_CHANGES = (0, 12)  # event types of a .dat file that are changes of brightness
_MAX_HEADER_LINES, _MAX_HEADER_LINE = 200, 4096

Frames = NDArray[Any]


class ChunkReader(Protocol):
    """Reads the chunks of one stream, one after the other; what it returns is checked for the sensor."""

    def read(self, body: bytes) -> "tuple[ChunkReader, Events | Frames]":
        """Return the reader of the next chunk, and this one's events or frames [n, C, H, W].

        Raises WrongChunk.
        """


@dataclass(frozen=True, slots=True)
class EventReader:
    """Packed records of 13 bytes, little-endian: x u16, y u16, t i64 in microseconds, p u8."""

    sensor: tuple[int, int]

    def read(self, body: bytes) -> "tuple[EventReader, Events]":
        records = _records(body, EVENT_RECORD)
        events = Events(*(np.ascontiguousarray(records[name]) for name in ("t", "x", "y", "p")))
        return self, _on_sensor(events, self.sensor)


@dataclass(frozen=True, slots=True)
class DatReader:
    """Prophesee's records of 8 bytes, with or without the header of a file before the first of them.

    The clock has 32 bits; its wraps are undone over the whole stream. docs.prophesee.ai, "DAT File Format".
    """

    sensor: tuple[int, int]
    is_first: bool = True
    wraps: int = 0
    last: int = 0  # as the camera's clock had it

    def read(self, body: bytes) -> "tuple[DatReader, Events]":
        start = _after_dat_header(body) if self.is_first else 0
        records = _records(memoryview(body)[start:], _DAT_RECORD)
        if not len(records):
            return replace(self, is_first=self.is_first and not body), Events.empty()
        clock = records["t"].astype(np.int64)
        falls = np.diff(clock, prepend=self.last) < -(_WRAP // 2)
        wraps = self.wraps + np.cumsum(falls)
        word = records["word"]
        events = Events(
            clock + wraps * _WRAP,
            (word & 0x3FFF).astype(np.uint16),
            ((word >> 14) & 0x3FFF).astype(np.uint16),
            (word >> 28).astype(np.uint8),
        )
        moved = replace(self, is_first=False, wraps=int(wraps[-1]), last=int(clock[-1]))
        return moved, _on_sensor(events, self.sensor)


@dataclass(frozen=True, slots=True)
class FrameReader:
    """Whole windows as the graph takes them, one after the other: raw bytes of [n, C, H, W]."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def read(self, body: bytes) -> "tuple[FrameReader, Frames]":
        size = int(np.prod(self.shape)) * self.dtype.itemsize
        if len(body) % size:
            raise WrongChunk(
                f"{len(body)} bytes are no whole number of windows of {size} bytes "
                f"({self.dtype} {list(self.shape)})"
            )
        return self, np.frombuffer(body, self.dtype).reshape(-1, *self.shape)


class _ReaderOf(Protocol):
    def __call__(self, task: StreamDetectionTask) -> ChunkReader: ...


READERS: Mapping[str, _ReaderOf] = MappingProxyType(
    {
        EVENTS: lambda task: EventReader(task.sensor_size),
        DAT: lambda task: DatReader(task.sensor_size),
        HISTOGRAMS: lambda task: FrameReader(task.window_shape, task.window_dtype),
    }
)


def _records(body: bytes | memoryview, record: np.dtype[Any]) -> NDArray[Any]:
    if len(body) % record.itemsize:
        raise WrongChunk(
            f"{len(body)} bytes are no whole number of records of {record.itemsize} bytes; cut chunks "
            "between records"
        )
    return np.frombuffer(body, record)


def _on_sensor(events: Events, sensor: tuple[int, int]) -> Events:
    """Return `events`; raises WrongChunk for the first that no such sensor (height, width) sends."""
    height, width = sensor
    wrong = (events.x >= width) | (events.y >= height) | (events.p > 1)
    if not wrong.any():
        return events
    index = int(wrong.argmax())
    x, y, p = int(events.x[index]), int(events.y[index]), int(events.p[index])
    if p > 1:
        raise WrongChunk(f"event {index} has the polarity {p}; 0 and 1 are polarities", index=index)
    raise WrongChunk(
        f"event {index} lies at column {x}, row {y}, and the model's sensor has {width} x {height} pixels "
        "(width x height)",
        index=index,
    )


def _after_dat_header(body: bytes) -> int:
    """Return where the records begin: after lines that begin with "% " and two bytes, or at once."""
    start = 0
    for _ in range(_MAX_HEADER_LINES):
        end = body.find(b"\n", start, start + _MAX_HEADER_LINE) + 1
        line = body[start:end]
        if not end or line[:1] != b"%" or line[1:2] not in (b" ", b"\n", b"\r") or not line.isascii():
            break
        start = end
        if line[1:].strip().lower() == b"end":
            break
    if not start:
        return 0
    kind = body[start : start + 2]
    if len(kind) < 2:
        raise WrongChunk("the chunk ends inside its .dat header; send the whole header in the first chunk")
    if kind[0] not in _CHANGES or kind[1] != _DAT_RECORD.itemsize:
        raise WrongChunk(
            f"the .dat header announces events of type {kind[0]} with {kind[1]} bytes; types 0 and 12 "
            "(changes of brightness) with 8 bytes can be read"
        )
    return start + 2
