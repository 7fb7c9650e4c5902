"""`sightline predict` straight from the repository."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.repository.repository import ModelRepository
from tests.fixtures.tiny_detection_model import paint, tiny_repository
from tests.services.detector_cli.conftest import Run
from tests.services.detector_cli.videos import (
    moving_square,
    painted,
    read_frames,
    write_picture,
    write_video_file,
)


def test_a_picture_gives_a_document_and_an_annotated_copy(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    # 192 x 96 into 96 x 96: half the size, 24 grey rows above and below. The rectangle lies in one cell.
    image = painted((8, 10, 28, 40), channel=1)
    write_picture(tmp_path / "a.png", image)
    result = run_predict("a.png", "-m", "tiny", "--repository", repository.root, "--out", "out")
    assert result.exit_code == 0, result.stderr
    document = json.loads((tmp_path / "out/a.json").read_text())
    assert document == {
        "source": "a.png",
        "model": "tiny",
        "version": 1,
        "image": {"width": 192, "height": 96},
        "detections": [
            {
                "box": {"x1": 8.0, "y1": 10.0, "x2": 28.0, "y2": 40.0},
                "score": 1.0,
                "label": "green",
                "label_id": 1,
            }
        ],
    }
    drawn = cv2.imread(str(tmp_path / "out/a.jpg"))[:, :, ::-1].astype(int)
    assert drawn.shape == image.shape
    changed = np.abs(drawn - image).max(axis=2) > 60
    assert changed[10, 10:26].any()  # the box's upper edge
    assert not changed[60:, 60:].any()  # far from it nothing


def test_the_summary_on_stdout_is_one_document(run_predict: Run, repository: ModelRepository, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    write_video_file(tmp_path / "clip.mp4", moving_square(6))
    result = run_predict("a.png", "clip.mp4", "-m", "tiny", "--repository", repository.root, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert (summary["pictures"], summary["frames"], summary["detections"]) == (1, 6, 7)
    assert summary["problems"] == []
    assert summary["images_per_s"] > 0
    picture, video = summary["results"]
    assert picture["detections"][0]["box"] == {"x1": 8.0, "y1": 10.0, "x2": 28.0, "y2": 40.0}
    assert video["found"] == 6
    assert all(Path(path).is_file() for one in summary["results"] for path in one["files"])
    on_disk = json.loads((Path(summary["out"]) / "summary.json").read_text())
    assert on_disk["frames"] == 6


def test_a_video_gives_lines_per_frame_and_a_video_that_plays(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    write_video_file(tmp_path / "clip.mp4", moving_square(20), frames_per_s=5.0)
    result = run_predict("clip.mp4", "-m", "tiny", "--repository", repository.root, "-o", "out")
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(20))
    assert [line["time_s"] for line in lines] == pytest.approx([number / 5 for number in range(20)])
    for number, line in enumerate(lines):
        (found,) = line["detections"]
        # Half the size inside the model, so that a box is right to two pixels.
        assert found["box"]["x1"] == pytest.approx(8 + number, abs=2)
        assert found["box"]["x2"] == pytest.approx(28 + number, abs=2)
        assert found["label"] == "red"
    frames = read_frames(tmp_path / "out/clip.mp4")
    assert len(frames) == 20
    capture = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0)
    capture.release()


def test_a_stride_keeps_the_playing_time(run_predict: Run, repository: ModelRepository, tmp_path: Path):
    write_video_file(tmp_path / "clip.mp4", moving_square(20), frames_per_s=10.0)
    result = run_predict("clip.mp4", "-m", "tiny", "--repository", repository.root, "-o", "out", "--every", 4)
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/clip.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [0, 4, 8, 12, 16]
    capture = cv2.VideoCapture(str(tmp_path / "out/clip.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS) == pytest.approx(2.0)
    capture.release()


@pytest.mark.parametrize(
    ("form", "suffixes"), [("pictures", {".jpg", ".mp4"}), ("json", {".json", ".jsonl"})]
)
def test_the_format_decides_what_is_written(
    run_predict: Run, repository: ModelRepository, tmp_path: Path, form: str, suffixes: set[str]
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    write_video_file(tmp_path / "clip.mp4", moving_square(3))
    result = run_predict(
        "a.png", "clip.mp4", "-m", "tiny", "--repository", repository.root, "-o", "out", "--format", form
    )
    assert result.exit_code == 0, result.stderr
    written = {path.suffix for path in (tmp_path / "out").iterdir() if path.name != "summary.json"}
    assert written == suffixes


def test_batches_give_what_single_pictures_give(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    for number in range(5):
        write_picture(tmp_path / f"{number}.png", painted((8 + number, 10, 28, 40)))
    write_video_file(tmp_path / "clip.mp4", moving_square(7))
    for out, batch in (("one", 1), ("three", 3)):
        result = run_predict(".", "-m", "tiny", "--repository", repository.root, "-o", out, "--batch", batch)
        assert result.exit_code == 0, result.stderr
    names = ["clip.jsonl", *(f"{number}.json" for number in range(5))]
    for name in names:
        assert (tmp_path / "one" / name).read_text() == (tmp_path / "three" / name).read_text()


def test_thresholds_are_applied(run_predict: Run, repository: ModelRepository, tmp_path: Path):
    image = painted((8, 10, 28, 40))  # score 1
    paint(image, (104, 10, 124, 40), 2, 180)  # score 180 / 255 = 0.71
    write_picture(tmp_path / "a.png", image)

    def found(*options: object) -> list[str]:
        result = run_predict("a.png", "-m", "tiny", "--repository", repository.root, "--json", *options)
        assert result.exit_code == 0, result.stderr
        return [one["label"] for one in json.loads(result.stdout)["results"][0]["detections"]]

    assert found() == ["red", "blue"]
    assert found("--score-threshold", 0.8) == ["red"]
    assert found("--max-detections", 1) == ["red"]


@pytest.mark.parametrize(
    ("name", "version", "score"), [("tiny", 1, 1.0), ("tiny:2", 2, 0.75), ("tiny:trial", 2, 0.75)]
)
def test_a_version_is_chosen_by_number_by_alias_or_is_the_live_one(
    run_predict: Run, repository: ModelRepository, tmp_path: Path, name: str, version: int, score: float
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "-m", name, "--repository", repository.root, "--json")
    (one,) = json.loads(result.stdout)["results"]
    assert one["version"] == version
    assert one["detections"][0]["score"] == pytest.approx(score, abs=1e-6)


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    write_picture(tmp_path / "good.png", painted((8, 10, 28, 40)))
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "broken.mp4").write_text("no video")
    encoded = cv2.imencode(".jpg", painted((8, 10, 28, 40)))[1].tobytes()
    (tmp_path / "short.jpg").write_bytes(encoded[: len(encoded) // 2])
    result = run_predict(
        "absent.jpg", "text.jpg", "empty.png", "broken.mp4", "short.jpg", "good.png",
        "-m", "tiny", "--repository", repository.root, "-o", "out", "--json",
    )  # fmt: skip
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["pictures"] == 1
    assert {problem["source"] for problem in summary["problems"]} == {
        "absent.jpg", "text.jpg", "empty.png", "broken.mp4", "short.jpg",
    }  # fmt: skip
    assert all(problem["reason"] for problem in summary["problems"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "good.jpg",
        "good.json",
        "summary.json",
    ]


def test_problems_are_said_on_stderr_for_people(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    (tmp_path / "text.jpg").write_text("no picture")
    result = run_predict("text.jpg", "-m", "tiny", "--repository", repository.root)
    assert result.exit_code == 1
    assert "error: text.jpg:" in result.stderr


def test_a_video_that_is_cut_short_gives_what_it_holds_and_a_warning(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    path = write_video_file(tmp_path / "clip.avi", moving_square(40), codec="MJPG")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    result = run_predict("clip.avi", "-m", "tiny", "--repository", repository.root, "--json")
    assert result.exit_code == 0, result.stderr
    (video,) = json.loads(result.stdout)["results"]
    assert 0 < video["images"] < 40
    assert f"only {video['images']} of 40 frames" in video["warning"]


def test_every_run_has_a_new_folder_unless_one_is_named(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    for _ in range(3):
        assert run_predict("a.png", "-m", "tiny", "--repository", repository.root).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "var/predictions").iterdir()) == [
        "predict",
        "predict2",
        "predict3",
    ]


def test_a_named_folder_that_holds_something_is_kept_unless_forced(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("keep me")
    (tmp_path / "out/a.json").write_text("old")
    arguments = ("a.png", "-m", "tiny", "--repository", repository.root, "-o", "out")
    refused = run_predict(*arguments)
    assert refused.exit_code == 2
    assert "not empty" in refused.stderr
    assert "--force" in refused.stderr
    assert (tmp_path / "out/a.json").read_text() == "old"
    assert run_predict(*arguments, "--force").exit_code == 0
    assert json.loads((tmp_path / "out/a.json").read_text())["model"] == "tiny"
    assert (tmp_path / "out/mine.txt").read_text() == "keep me"


def test_an_unknown_model_names_the_nearest_and_leaves_no_folder(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "-m", "tinny", "--repository", repository.root, "-o", "out")
    assert result.exit_code == 3
    assert "did you mean 'tiny'?" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_unknown_version_is_answered_with_those_there_are(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "-m", "tiny:9", "--repository", repository.root)
    assert result.exit_code == 3
    assert "1, 2" in result.stderr


def test_an_empty_repository_says_how_to_fill_it(run_predict: Run, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "--repository", tmp_path / "nothing")
    assert result.exit_code == 3
    assert "sightline export" in result.stderr


def test_a_version_with_a_changed_file_is_refused(run_predict: Run, tmp_path: Path):
    repository = tiny_repository(tmp_path)
    model = repository.path("tiny", 1) / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes()[:-1] + b"\0")
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    result = run_predict("a.png", "-m", "tiny", "--repository", repository.root)
    assert result.exit_code == 1
    assert "model.onnx" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("--score-threshold", "1.5"),
        ("--score-threshold", "nan"),
        ("--iou-threshold", "-0.1"),
        ("--max-detections", "0"),
        ("--every", "0"),
        ("--format", "gif"),
        ("--force",),
        ("--server", "http://127.0.0.1:9", "--repository", "x"),
        ("--server", "127.0.0.1:8100"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_usage_errors(run_predict: Run, tmp_path: Path, options: tuple[str, ...]):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    assert run_predict("a.png", *options).exit_code == 2
    assert not (tmp_path / "var").exists()


def test_no_sources_is_a_usage_error(run_predict: Run):
    assert run_predict().exit_code == 2


def test_an_interrupted_run_leaves_nothing_unfinished(repository: ModelRepository, tmp_path: Path):
    clip = write_video_file(tmp_path / "clip.mp4", moving_square(20) * 200)
    arguments = [str(clip), "-m", "tiny", "--repository", str(repository.root), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "shared.cli.main", "predict", *arguments], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob("out/.clip*.mp4")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 130, messages
    assert list((tmp_path / "out").iterdir()) == []
