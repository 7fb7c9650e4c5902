from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

import shared.data.events.hdf5 as hdf5
from shared.data.events.recording import open_recording
from shared.data.events.repairs import RecordingUnreadable
from tests.data.events.formats import Event, write_columns, write_records

EVENTS = [Event(100 + 7 * step, step % 300, step % 200, step % 2) for step in range(500)]
ROWS = [list(event) for event in EVENTS]


@pytest.mark.parametrize("compression", [None, "gzip", hdf5plugin.Blosc(cname="zstd"), hdf5plugin.Zstd()])
def test_both_layouts_are_read_in_pieces(tmp_path: Path, read_all, monkeypatch, compression) -> None:
    monkeypatch.setattr(hdf5, "CHUNK_EVENTS", 64)
    options = {"compression": compression} if compression else {}
    columns = write_columns(tmp_path / "a_td.h5", EVENTS, options=options)
    records = write_records(tmp_path / "b.hdf5", EVENTS)
    for path, size in ((columns, (240, 304)), (records, (720, 1280))):
        rows, recording = read_all(path)
        assert rows == ROWS
        assert (recording.format, recording.size, recording.repairs.as_dict()) == ("hdf5", size, {})


def test_an_hdf5_file_is_known_by_its_first_bytes(tmp_path: Path, read_all) -> None:
    assert read_all(write_columns(tmp_path / "a_td.dat", EVENTS))[0] == ROWS


def test_minus_one_is_darker_and_no_repair(tmp_path: Path, read_all) -> None:
    path = write_columns(tmp_path / "a.h5", EVENTS, p=[2 * event.p - 1 for event in EVENTS])
    rows, recording = read_all(path)
    assert rows == ROWS
    assert recording.repairs.as_dict() == {}


def test_a_size_that_is_missing_comes_from_the_events(tmp_path: Path, read_all) -> None:
    rows, recording = read_all(write_columns(tmp_path / "a.h5", EVENTS, size=None))
    assert (rows, recording.size) == (ROWS, (240, 304))
    assert recording.repairs.as_dict() == {"size_from_events": 1}
    assert list(recording.chunks())
    assert recording.repairs.as_dict() == {"size_from_events": 1}  # a second reading counts anew


def with_filter(path: Path, code: int) -> Path:
    """A dataset whose pipeline names a filter that nobody has; its one chunk is written as it is."""
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, ())
        kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
        file.create_group("CD")
        space = h5py.h5s.create_simple((4,))
        dataset = h5py.h5d.create(file["CD"].id, b"events", h5py.h5t.py_create(kind), space, plist)
        dataset.write_direct_chunk((0,), np.zeros(4, kind).tobytes())
    return path


def test_a_missing_filter_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecordingUnreadable, match=r"36559.*ECF.*HDF5_PLUGIN_PATH"):
        open_recording(with_filter(tmp_path / "a.hdf5", 0x8ECF))
    with pytest.raises(RecordingUnreadable, match=r"filter 40000.*not installed"):
        open_recording(with_filter(tmp_path / "b.hdf5", 40000))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_columns(tmp_path / "a.h5", EVENTS)
    data = path.read_bytes()
    for length in (0, 7, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(RecordingUnreadable, match=r"empty|not a whole HDF5 file"):
            open_recording(path)


def test_damaged_data_is_refused_with_the_place(tmp_path: Path, read_all) -> None:
    path = write_columns(tmp_path / "a.h5", EVENTS, options={"compression": "gzip", "fletcher32": True})
    with h5py.File(path) as file:
        offset = file["events/t"].id.get_chunk_info(2).byte_offset
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(RecordingUnreadable, match=r"events 0 to 500 cannot be read"):
        read_all(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t": [], "x": [], "y": [], "p": []}, "holds no event"),
        ({"t_kind": "f8"}, "column t holds float64"),
    ],
)
def test_columns_that_cannot_be_events_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(RecordingUnreadable, match=message):
        open_recording(write_columns(tmp_path / "a.h5", EVENTS, **changes))


def test_a_file_of_something_else_says_what_it_holds(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pictures"] = np.zeros(3)
        file["events/x"] = np.zeros(3, np.int16)
    with pytest.raises(RecordingUnreadable, match=r"missing: t, y, p; it holds events, pictures"):
        open_recording(tmp_path / "a.h5")


def test_columns_of_unequal_length_are_cut_to_the_shortest(tmp_path: Path, read_all) -> None:
    path = write_columns(tmp_path / "a.h5", EVENTS, p=[event.p for event in EVENTS][:490])
    rows, recording = read_all(path)
    assert rows == ROWS[:490]
    assert recording.repairs.as_dict() == {"unequal_columns": 30}


def test_disorder_range_and_polarity_are_repaired_and_counted(tmp_path: Path, read_all) -> None:
    events = [list(event) for event in EVENTS]
    events[10][0] -= 50  # earlier than nine before it; the running maximum moves it
    events[20][1] = 304  # one column beyond the sensor
    events[21][2] = 65535
    events[30][3] = 7
    events[31][3] = -3
    events[0][0] = -5
    wrong = [Event(*event) for event in events]
    rows, recording = read_all(write_columns(tmp_path / "a.h5", wrong))
    expected = [list(row) for row in ROWS]
    expected[10][0] = expected[9][0]
    expected[30][3], expected[31][3] = 1, 0
    assert rows == [row for number, row in enumerate(expected) if number not in (0, 20, 21)]
    assert recording.repairs.as_dict() == {
        "time_backwards": 1, "negative_time": 1, "outside_sensor": 2, "polarity": 2
    }  # fmt: skip


def test_what_repairing_would_hide_is_an_error(tmp_path: Path, read_all) -> None:
    later = [Event(event.t + 5_000_000, *event[1:]) for event in EVENTS]
    with pytest.raises(RecordingUnreadable, match=r"event 500 is at 100 us, 5\.003 s"):
        read_all(write_columns(tmp_path / "a.h5", later + EVENTS))
    with pytest.raises(RecordingUnreadable, match=r"beyond a sensor of 20 x 20 .*--sensor"):
        read_all(write_columns(tmp_path / "b.h5", EVENTS, size=(20, 20)))
    with pytest.raises(RecordingUnreadable, match=r"polarities are none of -1, 0 and 1"):
        read_all(write_columns(tmp_path / "c.h5", EVENTS, p=[5] * len(EVENTS)))
