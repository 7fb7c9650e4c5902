"""`sightline predict` on recordings, straight from the repository.

The tiny stream model halves what it saw with every window: one event gives its own pixel as a box with the
scores 1/2, 1/3 and 1/5 in three windows, and then nothing (tests/fixtures/tiny_stream_model.py).
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from services.detector.cli.streams import recording_windows
from shared.data.events.repairs import RecordingUnreadable
from shared.data.events.windows import windows
from shared.repository.repository import ModelRepository
from shared.vision.events import Events
from tests.data.events.formats import (
    Event,
    dat_header,
    dat_records,
    evt3_bytes,
    evt3_words,
    raw_header,
    write_columns,
)
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import TinyStreamModel, add_tiny_stream_version, tiny_stream_repository
from tests.services.detector_cli.conftest import Run
from tests.services.detector_cli.videos import painted, read_frames, write_picture

SENSOR = (32, 48)
# One event left of the middle in the first window of 50 ms, one right of it in the fifth.
EVENTS = [Event(10_000, 5, 7, 1), Event(240_000, 40, 20, 0)]
SCORES = [("left", 1 / 2), ("left", 1 / 3), ("left", 1 / 5), None, ("right", 1 / 2)]


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """`fading` and `broken` are for 32 x 48 pixels, `half` for 64 x 96 halved, `tiny` for pictures."""
    repository = tiny_stream_repository(tmp_path_factory.mktemp("streams"))
    half = TinyStreamModel(sensor_height=64, sensor_width=96, halved=True)
    add_tiny_stream_version(repository, "half", half)
    add_tiny_stream_version(repository, "broken", TinyStreamModel(nan_from=1))
    add_tiny_version(repository, "tiny")
    return repository


def box(x: float, y: float, side: float = 1) -> dict[str, float]:
    return {"x1": x, "y1": y, "x2": x + side, "y2": y + side}


def found(document: dict) -> list[tuple[str, float] | None]:
    """Label and score of the one detection of every window, None for a window without."""
    lists = [window["detections"] for window in document["windows"]]
    assert all(len(detections) <= 1 for detections in lists)
    return [(one[0]["label"], pytest.approx(one[0]["score"], abs=1e-6)) if one else None for one in lists]


def test_a_recording_gives_a_document_of_its_windows_with_what_is_remembered(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "street_td.h5", EVENTS, SENSOR)
    result = run_predict("street_td.h5", "-m", "fading", "--repository", streams.root, "-o", "out")
    assert result.exit_code == 0, result.stderr
    document = json.loads((tmp_path / "out/street_td.json").read_text())
    assert document.pop("windows") == [
        {
            "index": index,
            "start_us": 50_000 * index,
            "end_us": 50_000 * (index + 1),
            "detections": [{"box": place, "score": score, "label": label, "label_id": label_id}]
            if label is not None
            else [],
        }
        for index, (label, label_id, score, place) in enumerate(
            [
                ("left", 0, 0.5, box(5, 7)),
                ("left", 0, 0.333333, box(5, 7)),
                ("left", 0, 0.2, box(5, 7)),
                (None, 0, 0, {}),
                ("right", 1, 0.5, box(40, 20)),
            ]
        )
    ]
    assert document == {
        "source": "street_td.h5",
        "model": "fading",
        "version": 1,
        "sensor": {"height": 32, "width": 48},
        "window_us": 50_000,
        "repairs": {},
    }


def test_the_video_has_one_frame_per_window_with_the_events_and_the_box(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "-o", "out")
    assert result.exit_code == 0, result.stderr
    frames = [frame.astype(int) for frame in read_frames(tmp_path / "out/a.mp4")]
    assert [frame.shape for frame in frames] == [(480, 720, 3)] * 5  # 15 pixels a side for each of 32 x 48
    capture = cv2.VideoCapture(str(tmp_path / "out/a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(20)
    capture.release()
    brighter, darker = frames[0][7 * 15 + 7, 5 * 15 + 7], frames[4][20 * 15 + 7, 40 * 15 + 7]
    ground = frames[1][7 * 15 + 7, 5 * 15 + 7]  # the event is over, its box is not
    assert brighter.min() > 180
    assert darker[2] - darker[0] > 80  # blue
    assert ground.max() < 90
    orange = frames[1][7 * 15 : 8 * 15, 5 * 15]  # the box's left edge, class 0
    assert (orange[:, 0] - orange[:, 2] > 60).mean() > 0.8
    assert np.abs(frames[3][60:200] - ground).max() < 40  # nothing is remembered any more


def test_windows_start_at_a_multiple_of_their_length_and_share_their_edges(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    # The second event is the end of one window and the start of the next: m = 1, then 1/2 + 1.
    write_columns(tmp_path / "a.h5", [Event(1_234_567, 5, 7, 1), Event(1_300_000, 5, 7, 1)], SENSOR)
    result = run_predict(
        "a.h5", "-m", "fading", "--repository", streams.root, "-o", "out", "--format", "json"
    )
    assert result.exit_code == 0, result.stderr
    document = json.loads((tmp_path / "out/a.json").read_text())
    assert [(window["start_us"], window["end_us"]) for window in document["windows"]] == [
        (1_200_000, 1_250_000),
        (1_250_000, 1_300_000),
    ]
    assert found(document) == [("left", 0.5), ("left", 0.6)]  # 1.5 / 2.5


def test_boxes_of_a_model_at_half_resolution_are_in_pixels_of_the_sensor(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    # Only odd rows and columns are kept: (61, 7) becomes column 30, row 3 of 48 x 32, and its box 60 to 62.
    write_columns(tmp_path / "a.h5", [Event(0, 61, 7, 1), Event(1, 60, 40, 1)], (64, 96))
    result = run_predict("a.h5", "-m", "half", "--repository", streams.root, "-o", "out")
    assert result.exit_code == 0, result.stderr
    (window,) = json.loads((tmp_path / "out/a.json").read_text())["windows"]
    assert [one["box"] for one in window["detections"]] == [box(60, 6, side=2)]
    (frame,) = read_frames(tmp_path / "out/a.mp4")
    assert frame.shape == (512, 768, 3)  # of the sensor, 8 pixels a side


def test_every_format_gives_the_same(run_predict: Run, streams: ModelRepository, tmp_path: Path):
    write_columns(tmp_path / "columns.h5", EVENTS, SENSOR)
    (tmp_path / "records.DAT").write_bytes(dat_header(SENSOR) + dat_records(EVENTS))
    (tmp_path / "words.raw").write_bytes(raw_header("3.0", SENSOR) + evt3_bytes(evt3_words(EVENTS)))
    result = run_predict(".", "-m", "fading", "--repository", streams.root, "-o", "out")
    assert result.exit_code == 0, result.stderr
    for name in ("columns", "records", "words"):
        assert found(json.loads((tmp_path / f"out/{name}.json").read_text())) == SCORES


def test_a_stride_shows_fewer_windows_but_none_is_forgotten(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "-o", "out", "--every", 2)
    assert result.exit_code == 0, result.stderr
    document = json.loads((tmp_path / "out/a.json").read_text())
    assert [window["index"] for window in document["windows"]] == [0, 2, 4]
    assert found(document) == [SCORES[0], SCORES[2], SCORES[4]]
    capture = cv2.VideoCapture(str(tmp_path / "out/a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    capture.release()


def test_a_limit_counts_the_windows_that_are_shown(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    options = ("--every", 2, "--limit", 2, "--json", "--format", "json")
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "-o", "out", *options)
    summary = json.loads(result.stdout)
    assert (summary["windows"], summary["frames"], summary["detections"]) == (2, 0, 2)
    document = json.loads((tmp_path / "out/a.json").read_text())
    assert [window["index"] for window in document["windows"]] == [0, 2]


def test_the_summary_counts_windows_and_what_was_repaired(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    late = [Event(10_000, 5, 7, 1), Event(9_990, 6, 7, 1), Event(20_000, 99, 7, 1), Event(30_000, 5, 7, 1)]
    write_columns(tmp_path / "a.h5", late, SENSOR)
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "-o", "out", "--json")
    assert result.exit_code == 0, result.stderr
    (recording,) = json.loads(result.stdout)["results"]
    assert (recording["kind"], recording["images"], recording["found"]) == ("recording", 1, 1)
    assert recording["repairs"] == {"time_backwards": 1, "outside_sensor": 1}
    assert "1 events beyond the sensor, left out" in recording["warning"]
    assert json.loads((tmp_path / "out/a.json").read_text())["repairs"] == recording["repairs"]
    shown = run_predict("a.h5", "-m", "fading", "--repository", streams.root)
    assert "repaired: 1 events earlier than one before them" in shown.stderr
    assert "1 window, 1 detections" in shown.stdout


def test_thresholds_are_applied(run_predict: Run, streams: ModelRepository, tmp_path: Path):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    options = ("--score-threshold", 0.3, "--format", "json")
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "-o", "out", *options)
    assert result.exit_code == 0, result.stderr
    assert found(json.loads((tmp_path / "out/a.json").read_text())) == [*SCORES[:2], None, None, SCORES[4]]


def test_damaged_recordings_are_listed_and_the_rest_is_done(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    whole = write_columns(tmp_path / "good.h5", EVENTS, SENSOR).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.dat").write_bytes(b"")
    (tmp_path / "strange.raw").write_bytes(b"no header at all")
    write_columns(tmp_path / "joined.h5", [Event(9_000_000, 1, 1, 1), Event(5, 1, 1, 1)], SENSOR)
    write_columns(tmp_path / "silent.h5", [Event(0, 1, 1, 1), Event(4 * 3_600_000_000, 1, 1, 1)], SENSOR)
    result = run_predict(".", "-m", "fading", "--repository", streams.root, "-o", "out", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert {Path(problem["source"]).stem: problem["reason"] for problem in summary["problems"]}.keys() == {
        "cut", "empty", "strange", "joined", "silent",
    }  # fmt: skip
    reasons = " ".join(problem["reason"] for problem in summary["problems"])
    for said in (
        "not a whole HDF5 file",
        "is empty",
        "no header",
        "clock was set back",
        "no event for 4.0 h",
    ):
        assert said in reasons
    assert [one["found"] for one in summary["results"]] == [4]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "good.json", "good.mp4", "summary.json",
    ]  # fmt: skip


def test_a_recording_of_another_sensor_is_refused_with_both_sizes(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, (240, 304))
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root)
    assert result.exit_code == 1
    assert "of a sensor of 240 x 304 (height x width); fading is for 32 x 48" in result.stderr


def test_a_recording_that_does_not_state_its_sensor_needs_the_option(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, None)
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root)
    assert result.exit_code == 1
    assert "the file does not state it" in result.stderr
    assert "--sensor" in result.stderr
    told = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "--sensor", "32x48", "-o", "out")
    assert told.exit_code == 0, told.stderr
    assert found(json.loads((tmp_path / "out/a.json").read_text())) == SCORES
    assert run_predict("a.h5", "-m", "fading", "--sensor", "32").exit_code == 2


@pytest.mark.parametrize(
    ("source", "model", "reason"),
    [
        ("a.png", "fading", "is a picture, and fading takes recordings"),
        ("a.h5", "tiny", "is a recording, and tiny takes pictures and videos"),
    ],
)
def test_a_model_says_what_it_takes(
    run_predict: Run, streams: ModelRepository, tmp_path: Path, source: str, model: str, reason: str
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    result = run_predict(source, "-m", model, "--repository", streams.root, "-o", "out")
    assert result.exit_code == 1
    assert f"{source}: {reason}" in result.stderr
    assert not (tmp_path / "out").exists()


def test_heat_maps_of_recordings_are_a_usage_error(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    result = run_predict("a.h5", "-m", "fading", "--repository", streams.root, "--heatmap")
    assert result.exit_code == 2
    assert not (tmp_path / "var").exists()


def test_a_model_that_answers_with_no_numbers_ends_the_run_and_leaves_no_half_file(
    run_predict: Run, streams: ModelRepository, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    result = run_predict("a.h5", "-m", "broken", "--repository", streams.root, "-o", "out")
    assert result.exit_code == 1
    assert "not finite" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_machine_without_hdf5_is_told_what_to_install(
    run_predict: Run, streams: ModelRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.dat").write_bytes(dat_header(SENSOR) + dat_records(EVENTS))
    monkeypatch.delitem(sys.modules, "services.detector.cli.recordings", raising=False)
    monkeypatch.delitem(sys.modules, "shared.data.events.recording", raising=False)
    monkeypatch.delitem(sys.modules, "shared.data.events.hdf5", raising=False)
    monkeypatch.setitem(sys.modules, "h5py", None)
    result = run_predict("a.dat", "-m", "fading", "--repository", streams.root)
    assert result.exit_code == 4
    assert "need the Python package 'h5py'" in result.stderr
    assert "sightline[all]" in result.stderr


def test_an_interrupted_run_leaves_nothing_unfinished(streams: ModelRepository, tmp_path: Path):
    rows = [Event(50_000 * number, number % 48, 3, 1) for number in range(4000)]
    recording = write_columns(tmp_path / "long.h5", rows, SENSOR)
    arguments = [str(recording), "-m", "fading", "--repository", str(streams.root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "shared.cli.main", "predict", *arguments, "-o", str(tmp_path / "out")],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("out/.long*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 130, messages
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_windows_are_those_of_preprocessing_however_the_file_is_cut(pieces: int):
    random = np.random.default_rng(0)
    t = np.sort(random.integers(70_000, 900_000, 500))
    t[100:110] = 150_000  # events at an edge belong to two windows
    t[200:] += 400_000  # windows without events
    t.sort()
    events = Events(t, *(np.zeros(500, kind) for kind in (np.uint16, np.uint16, np.uint8)))
    cuts = np.sort(random.choice(np.arange(1, 500), pieces - 1, replace=False)).tolist()
    chunks = [events[start:end] for start, end in zip([0, *cuts], [*cuts, 500], strict=True)]
    found = list(recording_windows(chunks, 50_000))
    ends = np.arange(100_000, -(-int(t[-1]) // 50_000) * 50_000 + 1, 50_000)
    assert [window.end_us for window in found] == ends.tolist()
    for window, expected in zip(found, windows([events], ends, 50_000), strict=True):
        assert np.array_equal(window.events.t, expected.t)


def test_a_clock_that_jumps_ahead_is_an_error_and_no_endless_row_of_windows():
    t = np.array([0, 10**15])
    events = Events(t, *(np.zeros(2, kind) for kind in (np.uint16, np.uint16, np.uint8)))
    with pytest.raises(RecordingUnreadable, match="clock jumped"):
        list(recording_windows([events], 50_000))
