"""`sightline bench precision` with versions of a classification model."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from services.detector.cli.bench.commands import app
from shared.repository.repository import ModelRepository
from tests.fixtures.tiny_classification_model import TinyClassifier, add_tiny_classifier
from tests.fixtures.tiny_detection_model import add_tiny_version, tiny_repository

FEW = ["--rounds", "1", "--images", "4", "--latency-images", "2", "--threads", "1"]


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """Version 2 wants nearly everything to be certain, so it decides otherwise."""
    repository = tiny_repository(tmp_path)
    add_tiny_classifier(repository)
    add_tiny_classifier(repository, model=TinyClassifier(thresholds=(0.99, 0.99, 0.99)), promote=False)
    return repository


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Of four pictures two are red by 0.88, above 0.5 and below 0.99."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        picture = np.full((64, 128, 3), 90, np.uint8)
        if number < 2:
            picture[:, :16] = (0, 0, 255)  # BGR
        cv2.imwrite(str(folder / f"{number}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return folder


def bench(repository: ModelRepository, *arguments: str) -> tuple[int, str, str]:
    options = ["precision", "--repository", str(repository.root), *FEW, *arguments]
    result = CliRunner().invoke(app, options)
    return result.exit_code, result.stdout, result.stderr


def test_versions_are_compared_by_f1_agreement_latency_and_size(
    repository: ModelRepository, pictures: Path
) -> None:
    arguments = ("-m", "colours", "--version", "1", "--version", "2", "--pictures", str(pictures), "--json")
    code, stdout, stderr = bench(repository, *arguments)
    assert code == 0, stderr
    first, second = json.loads(stdout)["versions"]
    assert (first["macro_f1"], first["map"], first["gate_agreement"]) == (0.89, 0.94, 0.995)
    assert first["macro_f1_change"] == pytest.approx(-0.01)
    assert first["agreement"] == 1.0
    assert second["agreement"] == pytest.approx(1 - 2 / 12, abs=1e-4)  # 2 of 4 pictures x 3 labels differ
    assert first["latency_ms"] > 0
    assert first["file_bytes"] == (repository.path("colours", 1) / "model.onnx").stat().st_size


def test_people_get_a_table_of_f1(repository: ModelRepository, pictures: Path) -> None:
    code, stdout, stderr = bench(repository, "-m", "colours", "--pictures", str(pictures))
    assert code == 0, stderr
    assert "macro-F1" in stdout
    assert "AP50" not in stdout


def test_versions_of_two_tasks_are_not_compared(repository: ModelRepository) -> None:
    add_tiny_version(repository, "colours", promote=False)
    code, _, stderr = bench(repository, "-m", "colours", "--version", "1", "--version", "3")
    assert code == 2
    assert "version 3 is a detection model" in stderr
