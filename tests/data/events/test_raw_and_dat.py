import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import shared.data.events.raw as raw
from shared.data.events.evt3 import Evt3Decoder
from shared.data.events.recording import open_recording
from shared.data.events.repairs import RecordingUnreadable, Repairs
from tests.data.events.formats import (
    Event,
    dat_header,
    dat_records,
    evt2_words,
    evt3_bytes,
    evt3_words,
    raw_header,
)


def write(path: Path, *parts: bytes) -> Path:
    path.write_bytes(b"".join(parts))
    return path


@st.composite
def streams(draw: st.DrawFn, longest_gap: int) -> list[Event]:
    """Events in order of time within a sensor of 720 x 1280, close together or far apart."""
    gaps = draw(st.lists(st.integers(0, 40) | st.integers(0, longest_gap), max_size=40))
    times = np.cumsum([draw(st.integers(0, 5_000_000)), *gaps]).tolist()
    pixel = st.tuples(st.integers(0, 1267), st.integers(0, 719), st.integers(0, 1))
    return [Event(time, *draw(pixel)) for time in times]


# By hand from the description of EVT 3.0: kind in bits 15-12, then 12 bits of value.
EVT3_BY_HAND = [
    0x8001,  # TIME_HIGH 1
    0x6005,  # TIME_LOW 5: 4096 + 5 us
    0x0007,  # ADDR_Y 7
    0x280A,  # ADDR_X 10, polarity 1
    0x8001,  # the same high time again
    0x200B,  # ADDR_X 11, polarity 0
    0x6006,  # 4096 + 6 us
    0xA100,  # a trigger, no event
    0x3864,  # VECT_BASE_X 100, polarity 1
    0x4005,  # VECT_12: bits 0 and 2; base moves to 112
    0x5002,  # VECT_8: bit 1; base moves to 120
    0x4800,  # VECT_12: bit 11
    0x0808,  # ADDR_Y 8 of a slave camera (bit 11)
    0x5080,  # VECT_8: bit 7, base is 132
]
EVT3_MEANS = [
    [4101, 10, 7, 1],
    [4101, 11, 7, 0],
    [4102, 100, 7, 1],
    [4102, 102, 7, 1],
    [4102, 113, 7, 1],
    [4102, 131, 7, 1],
    [4102, 139, 8, 1],
]


def test_evt3_words_mean_what_the_description_says(tmp_path: Path, read_all) -> None:
    rows, recording = read_all(write(tmp_path / "a.raw", raw_header("3.0"), evt3_bytes(EVT3_BY_HAND)))
    assert rows == EVT3_MEANS
    assert (recording.format, recording.size, recording.repairs.as_dict()) == ("evt3", (720, 1280), {})


@pytest.mark.parametrize("cut", range(1, len(EVT3_BY_HAND)))
def test_evt3_state_lives_on_from_piece_to_piece(cut: int) -> None:
    decoder = Evt3Decoder(Repairs())
    words = np.array(EVT3_BY_HAND, "<u2")
    rows = []
    for piece in (words[:cut], words[cut:]):
        chunk = decoder.decode(piece)
        rows += np.stack([chunk.t, chunk.x, chunk.y, chunk.p], axis=1).astype(int).tolist()
    assert rows == EVT3_MEANS


def test_evt3_words_one_by_one_give_the_same() -> None:
    decoder = Evt3Decoder(Repairs())
    chunks = [decoder.decode(np.array([word], "<u2")) for word in EVT3_BY_HAND]
    rows = [row for c in chunks for row in np.stack([c.t, c.x, c.y, c.p], axis=1).astype(int).tolist()]
    assert rows == EVT3_MEANS


def test_evt2_words_mean_what_the_description_says(tmp_path: Path, read_all) -> None:
    words = [
        0x8 << 28 | 3,  # TIME_HIGH 3: 3 * 64 us
        0x1 << 28 | 5 << 22 | 10 << 11 | 20,  # CD_ON at 192 + 5
        0xA << 28 | 6 << 22,  # a trigger, no event
        0x0 << 28 | 63 << 22 | 11 << 11 | 21,  # CD_OFF at 192 + 63
    ]
    data = b"".join(word.to_bytes(4, "little") for word in words)
    rows, recording = read_all(write(tmp_path / "a.raw", raw_header("2.0"), data))
    assert rows == [[197, 10, 20, 1], [255, 11, 21, 0]]
    assert (recording.format, recording.repairs.as_dict()) == ("evt2", {})


def test_dat_records_mean_what_the_description_says(tmp_path: Path, read_all) -> None:
    # x = 3, y = 5 and polarity 1: 3 | 5 << 14 | 1 << 28 = 0x10014003
    data = bytes([0x10, 0x27, 0, 0, 0x03, 0x40, 0x01, 0x10, 0x11, 0x27, 0, 0, 0xFF, 0, 0, 0])
    rows, recording = read_all(write(tmp_path / "a_td.dat", dat_header(), data))
    assert rows == [[10000, 3, 5, 1], [10001, 255, 0, 0]]
    assert (recording.format, recording.size) == ("dat", (240, 304))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams(8_000_000))
def test_every_format_gives_back_what_was_written(tmp_path: Path, read_all, events: list[Event]) -> None:
    rows = [list(event) for event in events]
    for name, data in {
        "a.dat": dat_header((720, 1280)) + dat_records(events),
        "b.raw": raw_header("2.0") + evt2_words(events),
        "c.raw": raw_header("3.0") + evt3_bytes(evt3_words(events)),
    }.items():
        found, recording = read_all(write(tmp_path / name, data))
        assert found == rows
        assert recording.repairs.as_dict() == {}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams(200), st.integers(1, 7))
def test_vectors_and_pieces_change_nothing(tmp_path: Path, read_all, events: list[Event], piece: int) -> None:
    ordered = sorted(events, key=lambda event: (event.t, event.y, event.p, event.x))
    path = write(tmp_path / "a.raw", raw_header("3.0"), evt3_bytes(evt3_words(ordered, vectors=True)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raw, "_CHUNK_WORDS", piece)
        assert read_all(path)[0] == [list(event) for event in ordered]


@pytest.mark.parametrize(
    ("start", "wrap", "encode"),
    [
        (2**32 - 40, 2**32, lambda events: dat_header((720, 1280)) + dat_records(events)),
        (2**24 - 40, 2**24, lambda events: raw_header("3.0") + evt3_bytes(evt3_words(events))),
        (2**34 - 40, 2**34, lambda events: raw_header("2.0") + evt2_words(events)),
    ],
)
def test_wraps_of_the_clock_are_undone(tmp_path: Path, read_all, start: int, wrap: int, encode) -> None:
    events = [Event(start + 10 * step, step, 3, step % 2) for step in range(10)]
    events += [Event(start + 100 + wrap // 8 * step, step, 4, 0) for step in range(20)]  # two wraps more
    suffix = ".dat" if wrap == 2**32 else ".raw"
    rows, recording = read_all(write(tmp_path / f"a{suffix}", encode(events)))
    assert rows == [list(event) for event in events]
    assert recording.repairs.as_dict() == {}


def test_a_time_word_late_over_the_wrap_is_put_back() -> None:
    decoder = Evt3Decoder(Repairs())
    words = [
        0x8FFF,
        0x6001,
        0x0000,
        0x2001,
        0x8000,
        0x6002,
        0x2002,
        0x8FFF,
        0x6003,
        0x2003,
        0x8000,
        0x6004,
        0x2004,
    ]
    chunk = decoder.decode(np.array(words, "<u2"))
    assert chunk.t.tolist() == [0xFFF001, 0x1000002, 0xFFF003, 0x1000004]


def test_headers_are_optional_where_the_format_says_so(tmp_path: Path, read_all) -> None:
    events = [Event(100 + step, step, step, 1) for step in range(20)]
    rows, recording = read_all(write(tmp_path / "a.dat", dat_records(events)))
    assert rows == [list(event) for event in events]
    assert recording.size == (240, 304)
    assert recording.repairs.as_dict() == {"size_from_events": 1}
    with pytest.raises(RecordingUnreadable, match="no header that names its encoding"):
        open_recording(write(tmp_path / "b.raw", evt2_words(events)))


def test_the_sensor_of_a_file_that_does_not_say_is_the_smallest_that_holds_its_events(
    tmp_path: Path, read_all
) -> None:
    path = write(tmp_path / "a.raw", raw_header("3.0", None), evt3_bytes(evt3_words([Event(1, 700, 5, 1)])))
    assert read_all(path)[1].size == (720, 1280)
    path = write(tmp_path / "b.raw", raw_header("3.0", None), evt3_bytes(evt3_words([Event(1, 1800, 5, 1)])))
    with pytest.raises(RecordingUnreadable, match="--sensor"):
        open_recording(path)
    assert read_all(path, (1000, 2000))[1].size == (1000, 2000)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.dat", b"", "is empty"),
        ("a.dat", dat_header(), "holds no event"),
        ("a.dat", dat_header()[:-1], "ends after its header"),
        ("a.dat", dat_header() + b"1234567", "holds no event"),
        ("a.dat", dat_header()[:-2] + bytes([14, 8]) + bytes(8), "type 14"),
        ("a.dat", dat_header()[:-2] + bytes([12, 16]) + bytes(16), "16 bytes"),
        ("a.dat", b"% Version 1\n" + bytes([0, 8]) + bytes(8), "version 1"),
        ("a.raw", raw_header("3.0"), "holds no event"),
        ("a.raw", raw_header("2.1") + bytes(64), "EVT 2.1"),
        ("a.raw", raw_header("4.0") + bytes(64), "EVT 4.0"),
        ("a.txt", b"1 2 3 1\n", "unknown suffix"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(RecordingUnreadable, match=message):
        open_recording(write(tmp_path / name, data))


@pytest.mark.parametrize(
    ("name", "data", "lost"),
    [
        ("a.dat", dat_header() + dat_records([Event(1, 2, 3, 1)]) + b"12345", 5),
        ("a.raw", raw_header("3.0") + evt3_bytes(evt3_words([Event(1, 2, 3, 1)])) + b"1", 1),
        ("a.raw", raw_header("2.0") + evt2_words([Event(1, 2, 3, 1)]) + b"123", 3),
    ],
)
def test_a_last_record_that_was_cut_off_is_counted(
    tmp_path: Path, read_all, name: str, data: bytes, lost: int
) -> None:
    rows, recording = read_all(write(tmp_path / name, data))
    assert rows == [[1, 2, 3, 1]]
    assert recording.repairs.as_dict() == {"cut_off": lost}


def test_events_before_the_first_time_and_reserved_words_are_counted(tmp_path: Path, read_all) -> None:
    words = [0x2001, 0x8000, 0x2002, 0x6001, 0x2003, 0x0002, 0x4FFF, 0x1000, 0x2004]
    rows, recording = read_all(write(tmp_path / "a.raw", raw_header("3.0"), evt3_bytes(words)))
    assert rows == [[1, 4, 2, 0]]
    # three single events without time or row, twelve of a vector without base
    assert recording.repairs.as_dict() == {"unknown_words": 1, "before_first_time": 15}
    data = (
        (1 << 28 | 5).to_bytes(4, "little")
        + evt2_words([Event(64, 1, 2, 1)])
        + (5 << 28).to_bytes(4, "little")
    )
    rows, recording = read_all(write(tmp_path / "b.raw", raw_header("2.0"), data))
    assert rows == [[64, 1, 2, 1]]
    assert recording.repairs.as_dict() == {"unknown_words": 1, "before_first_time": 1}


def test_words_may_be_stored_the_other_way_round(tmp_path: Path, read_all) -> None:
    header = raw_header("3.0").replace(b"% end\n", b"% endianness big\n% end\n")
    data = b"".join(word.to_bytes(2, "big") for word in EVT3_BY_HAND)
    assert read_all(write(tmp_path / "a.raw", header, data))[0] == EVT3_MEANS


def test_a_header_that_names_the_wrong_encoding_is_found_out(tmp_path: Path, read_all) -> None:
    rng = np.random.default_rng(1)
    events = [Event(100 * step, *map(int, rng.integers(0, (1280, 720, 2)))) for step in range(3000)]
    for path in (
        write(tmp_path / "a.raw", raw_header("3.0"), evt2_words(events)),
        write(tmp_path / "b.raw", raw_header("2.0"), evt3_bytes(evt3_words(events))),
    ):
        with pytest.raises(RecordingUnreadable, match="lie beyond a sensor"):
            read_all(path)


def test_a_recording_of_which_nothing_can_be_used_says_so(tmp_path: Path, read_all) -> None:
    path = write(tmp_path / "a.raw", raw_header("3.0"), evt3_bytes([0x2001, 0x1000, 0x8001]))
    with pytest.raises(
        RecordingUnreadable, match=r"no usable event \(left out: 1 unknown_words, 1 before_first_time"
    ):
        read_all(path)


def test_random_bytes_never_end_in_anything_but_a_clear_error(tmp_path: Path, read_all) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        header = [raw_header("3.0"), raw_header("2.0"), dat_header((720, 1280))][number % 3]
        path = write(tmp_path / ("a.dat" if number % 3 == 2 else "a.raw"), header, rng.bytes(4000))
        with contextlib.suppress(RecordingUnreadable):
            rows, recording = read_all(path)
            assert all(0 <= x < 1280 and 0 <= y < 720 and p in (0, 1) for _, x, y, p in rows)
            assert np.all(np.diff([row[0] for row in rows]) >= 0)
            assert recording.repairs.as_dict()
