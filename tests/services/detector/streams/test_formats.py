"""From bytes to events and windows."""

import struct
from pathlib import Path

import numpy as np
import pytest

from services.detector.dataplane.streams.formats import DatReader, EventReader, FrameReader
from services.detector.dataplane.streams.problems import WrongChunk
from shared.data.events.dat import DatFile
from shared.data.events.repairs import Repairs
from shared.vision.events import Events

SENSOR = (32, 48)
HEADER = b"% Data file containing CD events.\n% Version 2\n% Width 48\n% Height 32\n\x0c\x08"


def dat(*records: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<II", t, x | y << 14 | p << 28) for t, x, y, p in records)


def rows(events: Events) -> list[tuple[int, ...]]:
    return list(zip(*(getattr(events, name).tolist() for name in ("t", "x", "y", "p")), strict=True))


def test_records_of_thirteen_bytes_are_read() -> None:
    body = struct.pack("<HHqB", 47, 31, 2**40, 1) + struct.pack("<HHqB", 0, 1, 2**40 + 7, 0)
    _, events = EventReader(SENSOR).read(body)
    assert rows(events) == [(2**40, 47, 31, 1), (2**40 + 7, 0, 1, 0)]


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ((48, 0, 5, 1), "event 1 lies at column 48, row 0, and the model's sensor has 48 x 32"),
        ((0, 32, 5, 1), "row 32"),
        ((0, 0, 5, 2), "event 1 has the polarity 2"),
    ],
)
def test_an_event_that_no_such_sensor_sends_is_refused(record: tuple[int, ...], text: str) -> None:
    body = struct.pack("<HHqB", 0, 0, 5, 1) + struct.pack("<HHqB", *record)
    with pytest.raises(WrongChunk, match=text) as caught:
        EventReader(SENSOR).read(body)
    assert caught.value.extras == {"index": 1}


def test_a_broken_record_is_refused() -> None:
    with pytest.raises(WrongChunk, match="14 bytes are no whole number of records of 13 bytes"):
        EventReader(SENSOR).read(bytes(14))
    with pytest.raises(WrongChunk, match="records of 8 bytes"):
        DatReader(SENSOR).read(bytes(9))


def test_dat_is_read_as_the_reader_of_files_reads_it(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    clock = np.cumsum(random.integers(0, 2**27, 200)) % 2**32  # several wraps
    body = HEADER + dat(*((int(t), i % 48, i % 32, i % 2) for i, t in enumerate(clock)))
    (tmp_path / "a.dat").write_bytes(body)
    (chunk,) = DatFile(tmp_path / "a.dat", Repairs()).chunks()
    reader, parts = DatReader(SENSOR), []
    for start, end in (
        (0, len(HEADER) + 80),
        (len(HEADER) + 80, len(HEADER) + 800),
        (len(HEADER) + 800, None),
    ):
        reader, events = reader.read(body[start:end])
        parts.append(events)
    whole = Events.join(parts)
    np.testing.assert_array_equal(whole.t, chunk.t)
    np.testing.assert_array_equal(whole.x, chunk.x)
    np.testing.assert_array_equal(whole.y, chunk.y)
    np.testing.assert_array_equal(whole.p, chunk.p)
    assert whole.t[-1] > 2**32


def test_dat_needs_no_header_and_takes_one_only_at_first() -> None:
    reader, events = DatReader(SENSOR).read(dat((5, 1, 2, 1)))
    assert rows(events) == [(5, 1, 2, 1)]
    reader, events = DatReader(SENSOR).read(b"")  # says nothing yet
    reader, events = reader.read(HEADER)
    assert len(events) == 0
    with pytest.raises(WrongChunk):
        reader.read(HEADER + dat((5, 1, 2, 1)))


def test_a_cut_or_foreign_dat_header_is_refused() -> None:
    with pytest.raises(WrongChunk, match=r"inside its \.dat header"):
        DatReader(SENSOR).read(HEADER[:-1])
    with pytest.raises(WrongChunk, match="events of type 14"):
        DatReader(SENSOR).read(HEADER[:-2] + b"\x0e\x08")


def test_whole_windows_are_read_in_order() -> None:
    reader = FrameReader((4, 2, 3), np.dtype(np.int8))
    frames = np.arange(-24, 24, dtype=np.int8).reshape(2, 4, 2, 3)
    np.testing.assert_array_equal(reader.read(frames.tobytes())[1], frames)
    with pytest.raises(WrongChunk, match="25 bytes are no whole number of windows of 24 bytes"):
        reader.read(bytes(25))
