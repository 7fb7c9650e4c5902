"""`sightline bench streams`: what it counts as equal, and end to end on the tiny model."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.detector.cli.bench.commands import app
from services.detector.cli.bench.stream_alone import AloneRunner, read_stream_model
from services.detector.cli.bench.stream_recordings import RECORD, moving_shapes, pieces
from services.detector.cli.bench.streams import compare
from services.detector.routes.answering import detection_rows
from shared.repository.repository import ModelRepository
from shared.vision.boxes import Detections
from tests.fixtures.tiny_stream_model import TinyStreamModel, tiny_stream_repository
from tests.services.detector.streams.recordings import assert_same, offline


@pytest.fixture(autouse=True)
def own_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path / "var"))


@pytest.fixture
def streams_repository(tmp_path: Path) -> ModelRepository:
    return tiny_stream_repository(tmp_path)


def detections(x: float, score: float = 0.5) -> Detections:
    return Detections(
        np.array([[x, 1, x + 2, 3]], np.float32), np.array([score], np.float32), np.array([1], np.int64)
    )


def answered(windows: list[Detections], first: int = 0) -> list[dict]:
    return [
        {"index": first + number, "detections": detection_rows(window, ["a", "b"], box_decimals=5)}
        for number, window in enumerate(windows)
    ]


def test_streams_as_alone_differ_nowhere() -> None:
    alone = [[detections(1), detections(2)], [detections(3), Detections.empty()]]
    found = compare(alone, [answered(stream) for stream in alone])
    assert (found.windows, found.detections, found.distinct, found.wrong) == (4, 3, 2, {})


def test_exchanged_moved_rescored_and_missing_windows_are_told() -> None:
    alone = [[detections(1), detections(2)], [detections(3), detections(4)]]
    exchanged = compare(alone, [answered(alone[1]), answered(alone[0])])
    assert len(exchanged.wrong) == 4
    assert exchanged.largest_box_difference_px == pytest.approx(2)
    moved = compare(alone, [answered([detections(1.001), detections(2)]), answered(alone[1])])
    assert list(moved.wrong) == ["stream 0, window 0"]
    rescored = compare(alone, [answered(alone[0]), answered([detections(3), detections(4, 0.5002)])])
    assert list(rescored.wrong) == ["stream 1, window 1"]
    missing = compare(alone, [answered(alone[0][:1]), answered(alone[1], first=1)])
    assert list(missing.wrong) == ["stream 0", "stream 1"]
    fewer = compare(alone, [answered(alone[0]), answered([detections(3), Detections.empty()])])
    assert list(fewer.wrong) == ["stream 1, window 1"]


def test_recordings_are_in_order_on_the_sensor_and_cut_without_loss() -> None:
    events = moving_shapes(3, (32, 48), 200_000, 5000)
    assert (len(events), events.t[0]) == (5000, 0)
    assert (np.diff(events.t) >= 0).all()
    assert events.x.max() < 48
    assert events.y.max() < 32
    parts = pieces(events, 200_000, 9, seed=1)
    assert [part.until_us for part in parts] == [None] * 8 + [200_000]
    records = np.frombuffer(b"".join(part.body for part in parts), RECORD)
    np.testing.assert_array_equal(records["t"], events.t)
    np.testing.assert_array_equal(records["x"], events.x)
    assert parts != pieces(events, 200_000, 9, seed=2)


def test_the_loop_alone_is_the_graph_window_by_window(tmp_path: Path) -> None:
    model = TinyStreamModel(halved=True)
    repository = tiny_stream_repository(tmp_path, model=model)
    events = moving_shapes(1, (32, 48), 300_000, 60)
    found = AloneRunner(read_stream_model(repository.path("fading", 1))).run(events, 6)
    assert_same([(one.boxes, one.scores, one.labels) for one in found], offline(events, 6, model=model))


def test_streams_at_once_are_compared_with_each_alone(
    streams_repository: ModelRepository, tmp_path: Path
) -> None:
    file = tmp_path / "streams.json"
    result = CliRunner().invoke(
        app,
        [
            "streams", "--model", "fading", "--repository", str(streams_repository.root), "--streams", "6",
            "--clients", "4", "--seconds", "0.5", "--rate", "300", "--chunks", "7", "--max-batch", "1,4",
            "--report", str(file), "--json",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert json.loads(file.read_text()) == report
    assert [side["max_batch"] for side in report["sides"]] == [1, 4]
    for side in report["sides"]:
        assert (side["windows"], side["chunks"], side["distinct"], side["wrong"]) == (60, 42, 6, {})
        assert side["detections"] > 0
        assert sum(int(size) * runs for size, runs in side["batch_sizes"].items()) == 60
    assert all(aim["met"] for aim in report["aims"])


def test_wrong_uses_say_what_is_right(streams_repository: ModelRepository) -> None:
    root = ["--repository", str(streams_repository.root)]
    result = CliRunner().invoke(app, ["streams", "-m", "fading", "--max-batch", "1,many", *root])
    assert result.exit_code == 2
    assert "state numbers from 1 to 64" in result.stderr
    result = CliRunner().invoke(app, ["streams", "-m", "none", *root])
    assert result.exit_code == 3
