"""`sightline predict --server` against a real detector process."""

import json
from pathlib import Path

import pytest

from shared.repository.repository import ModelRepository
from tests.services.detector_cli.conftest import Run
from tests.services.detector_cli.videos import moving_square, painted, write_picture, write_video_file


def test_a_server_gives_the_same_documents_as_the_repository(
    run_predict: Run, repository: ModelRepository, server: str, tmp_path: Path
):
    for number in range(6):
        write_picture(tmp_path / f"{number}.png", painted((8 + number, 10, 28, 40), channel=number % 3))
    for out, origin in (("here", ("--repository", repository.root)), ("there", ("--server", server))):
        result = run_predict(".", "-m", "tiny", *origin, "-o", out, "--format", "json")
        assert result.exit_code == 0, result.stderr
    for number in range(6):
        assert (tmp_path / f"here/{number}.json").read_text() == (
            tmp_path / f"there/{number}.json"
        ).read_text()


@pytest.mark.parametrize("batch", [1, 4])
def test_frames_of_a_video_come_back_in_order(run_predict: Run, server: str, tmp_path: Path, batch: int):
    write_video_file(tmp_path / "clip.mp4", moving_square(20))
    result = run_predict(
        "clip.mp4", "-m", "tiny", "--server", server, "-o", "out", "--batch", batch, "--workers", 4
    )
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))
    for number, line in enumerate(lines):
        # The strongest: frames travel as JPEG, whose ripples may add a weak one beside it.
        found = max(line["detections"], key=lambda one: one["score"])
        assert found["box"]["x2"] == pytest.approx(28 + number, abs=4)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_refused_picture_is_listed_and_the_rest_is_done(
    run_predict: Run, server: str, tmp_path: Path, batch: int
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    (tmp_path / "b.jpg").write_text("no picture")
    write_picture(tmp_path / "c.png", painted((8, 10, 28, 40)))
    result = run_predict(".", "-m", "tiny", "--server", server, "--batch", batch, "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert [one["found"] for one in summary["results"]] == [1, 1]
    (problem,) = summary["problems"]
    assert problem["source"] == "b.jpg"
    assert "not a picture" in problem["reason"]


def test_thresholds_reach_the_server(run_predict: Run, server: str, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict(
        "a.png", "-m", "tiny:1", "--server", server, "--json", "--score-threshold", 1, "--max-detections", 5
    )
    assert json.loads(result.stdout)["detections"] == 1


def test_an_unknown_model_names_the_nearest(run_predict: Run, server: str, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "-m", "tinny", "--server", server)
    assert result.exit_code == 3
    assert "'tiny'" in result.stderr


@pytest.mark.parametrize("version", ["2", "trial", "9"])
def test_a_version_that_the_server_has_not_loaded_is_said_before_anything_is_sent(
    run_predict: Run, server: str, tmp_path: Path, version: str
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "-m", f"tiny:{version}", "--server", server, "-o", "out")
    assert result.exit_code == 3
    assert "loaded: 1" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_server_that_does_not_run_is_exit_code_4_with_a_hint(run_predict: Run, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "--server", "http://127.0.0.1:9")
    assert result.exit_code == 4
    assert "sightline up" in result.stderr
