"""`sightline predict` with a classification model, here and on a server."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from services.detector.cli.bench.server_process import start_detector
from shared.repository.repository import ModelRepository
from tests.fixtures.tiny_classification_model import (
    TinyClassifier,
    add_tiny_classifier,
    expected_probability,
)
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.services.detector_cli.conftest import Run
from tests.services.detector_cli.videos import write_video_file


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = tiny_repository(tmp_path_factory.mktemp("repository"))
    add_tiny_classifier(repository)
    add_tiny_classifier(repository, "mapless", TinyClassifier(maps=False))
    return repository


@pytest.fixture(scope="module")
def server(repository: ModelRepository) -> Iterator[str]:
    with start_detector(repository.root, {}) as detector:
        yield f"http://127.0.0.1:{detector.port}"


def painted(share: float, channel: int = 0) -> np.ndarray:
    """A grey picture whose right columns are of one colour."""
    picture = np.full((64, 128, 3), 90, np.uint8)
    if columns := round(share * 128):
        picture[:, -columns:] = 0
        picture[:, -columns:, channel] = 255
    return picture


@pytest.fixture
def plates(tmp_path: Path) -> Path:
    folder = tmp_path / "plates"
    folder.mkdir()
    for name, share, channel in (("a", 0.25, 0), ("b", 0.0, 0), ("c", 0.125, 2)):
        cv2.imwrite(str(folder / f"{name}.png"), painted(share, channel)[:, :, ::-1])
    return folder


def where(way: str, repository: ModelRepository, server: str) -> tuple[object, ...]:
    return ("--repository", repository.root) if way == "here" else ("--server", server)


def changed(picture: Path, drawn: Path) -> Any:
    one, other = (cv2.imread(str(path)).astype(int) for path in (picture, drawn))
    return np.abs(one - other).max(axis=2)


@pytest.mark.parametrize("way", ["here", "server"])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_folder_gives_labels_per_picture_a_table_and_lines(
    run_predict: Run,
    repository: ModelRepository,
    server: str,
    plates: Path,
    tmp_path: Path,
    way: str,
    batch: int,
) -> None:
    result = run_predict(
        "plates", "-m", "colours", *where(way, repository, server), "-o", "out", "--batch", batch
    )
    assert result.exit_code == 0, result.stderr
    document = json.loads((tmp_path / "out/a.json").read_text())
    assert (document["model"], document["version"]) == ("colours", 1)
    assert document["image"] == {"width": 128, "height": 64}
    red, green, blue = document["labels"]
    assert red["probability"] == pytest.approx(expected_probability(0.25), abs=1e-5)
    assert (red["present"], green["present"], blue["present"]) == (True, False, False)
    assert blue["threshold"] == 0.25
    lines = result.stdout.splitlines()
    assert lines[0] == f"plates/a.png: red {red['probability']:.3f}"
    assert lines[1].startswith("plates/b.png: no label; nearest is blue with 0.047 of 0.250")
    assert "3 pictures, 2 labels" in result.stdout
    with (tmp_path / "out/labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["present"]) for row in rows] == [
        ("plates/a.png", "red"),
        ("plates/b.png", ""),
        ("plates/c.png", "blue"),
    ]
    assert float(rows[0]["red"]) == red["probability"]


@pytest.mark.parametrize("way", ["here", "server"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_heat_map_of_the_strongest_label_is_laid_over_the_picture(
    run_predict: Run,
    repository: ModelRepository,
    server: str,
    plates: Path,
    tmp_path: Path,
    way: str,
    batch: int,
) -> None:
    place = where(way, repository, server)
    result = run_predict("plates", "-m", "colours", *place, "-o", "out", "--heatmap", "--batch", batch)
    assert result.exit_code == 0, result.stderr
    heat = changed(plates / "a.png", tmp_path / "out/a.jpg")
    assert (heat[30:, 104:124] > 60).all()
    assert heat[30:, :80].max() < 30  # JPEG's own traces
    assert changed(plates / "b.png", tmp_path / "out/b.jpg")[30:].max() < 30  # no label, so no heat


def test_without_the_flag_only_the_labels_are_written_in(
    run_predict: Run, repository: ModelRepository, plates: Path, tmp_path: Path
) -> None:
    run_predict("plates/c.png", "-m", "colours", "--repository", repository.root, "-o", "out")
    drawn = changed(plates / "c.png", tmp_path / "out/c.jpg")
    assert drawn[:12, :40].max() > 60
    assert drawn[32:, :90].max() < 30


def test_the_summary_counts_labels(run_predict: Run, repository: ModelRepository, plates: Path) -> None:
    place = ("--repository", repository.root)
    result = run_predict("plates", "-m", "colours", *place, "--json", "--score-threshold", 0.99)
    summary = json.loads(result.stdout)
    assert (summary["pictures"], summary["labels"]) == (3, 1)
    assert "detections" not in summary
    assert [one["found"] for one in summary["results"]] == [1, 0, 0]
    assert summary["results"][0]["labels"][0]["threshold"] == 0.99
    stored = json.loads((Path(summary["out"]) / "summary.json").read_text())
    assert "labels" not in stored["results"][0]


def test_a_video_gives_labels_per_frame(
    run_predict: Run, repository: ModelRepository, tmp_path: Path
) -> None:
    write_video_file(tmp_path / "strip.mp4", [painted(number / 8) for number in range(6)])
    result = run_predict(
        "strip.mp4", "-m", "colours", "--repository", repository.root, "-o", "out", "--heatmap"
    )
    assert result.exit_code == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "out/strip.jsonl").read_text().splitlines()]
    reds = [line["labels"][0]["probability"] for line in lines]
    assert len(lines) == 6
    assert reds == sorted(reds)
    assert (tmp_path / "out/strip.mp4").is_file()
    assert not (tmp_path / "out/labels.csv").exists()


@pytest.mark.parametrize("way", ["here", "server"])
@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("colours", ("--iou-threshold", 0.5), "--iou-threshold is of detection models"),
        ("colours", ("--max-detections", 5), "--max-detections is of detection models"),
        ("tiny", ("--heatmap",), "--heatmap is of classification models"),
    ],
)
def test_options_of_the_other_task_are_refused(
    run_predict: Run,
    repository: ModelRepository,
    server: str,
    plates: Path,
    tmp_path: Path,
    way: str,
    model: str,
    options: tuple[object, ...],
    words: str,
) -> None:
    result = run_predict("plates", "-m", model, *where(way, repository, server), *options, "-o", "out")
    assert result.exit_code == 2
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("way", ["here", "server"])
def test_a_model_without_maps_labels_and_refuses_heat_maps(
    run_predict: Run, repository: ModelRepository, server: str, plates: Path, way: str
) -> None:
    place = where(way, repository, server)
    assert run_predict("plates", "-m", "mapless", *place).exit_code == 0
    refused = run_predict("plates/a.png", "-m", "mapless", *place, "--heatmap")
    assert refused.exit_code != 0
    assert "activation_maps" in refused.stderr
