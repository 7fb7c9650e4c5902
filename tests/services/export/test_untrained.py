"""The version with random weights that benchmarks run: of the right cost, and never near a rounding."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from services.export.untrained import (
    add_untrained_versions,
    as_pixels,
    main,
    settle_statistics,
    threshold_between,
)
from shared.data.synthetic.cctv import generate_cctv
from shared.repository.repository import ModelRepository
from shared.vision.decode import decode_image
from shared.vision.letterbox import letterbox


def test_a_version_is_live_and_finds_something(tmp_path: Path):
    repository = ModelRepository(tmp_path / "repository")
    assert add_untrained_versions(repository, "untrained", "light") == [1]
    manifest = repository.verify("untrained", repository.resolve("untrained"))
    generate_cctv(tmp_path / "cctv", count={"test": 4}, size=(480, 640), seed=1)
    files = sorted((tmp_path / "cctv" / "test").glob("*.jpg"))
    size = (manifest.preprocessing.height, manifest.preprocessing.width)
    squares = np.stack([letterbox(decode_image(file.read_bytes()), size)[0] for file in files])
    session = ort.InferenceSession(repository.path("untrained", 1) / "model.onnx")
    names = [output.name for output in manifest.outputs]
    assert [output.name for output in session.get_outputs()] == names
    outputs = dict(zip(names, session.run(names, {manifest.inputs[0].name: squares}), strict=True))
    assert (outputs["scores"] >= manifest.thresholds.score_threshold).any()


def test_the_threshold_stands_in_the_widest_gap_between_usual_numbers_of_detections():
    # One picture: 5 to 20 candidates may stay above; the widest gap there is between 0.70 and 0.60.
    scores = np.array([[0.99, 0.98, 0.97, 0.96, 0.95, 0.72, 0.71, 0.70, 0.60, 0.59, *[0.5] * 20, 0.1]])
    assert threshold_between(scores.astype(np.float32)) == pytest.approx(0.65)


def test_batch_normalisation_takes_the_statistics_of_the_pictures():
    network = nn.Sequential(nn.BatchNorm2d(3))
    pictures = torch.full((2, 4, 4, 3), 51, dtype=torch.uint8)  # 0.2 of 255
    settle_statistics(network, as_pixels(pictures))
    assert network[0].running_mean.tolist() == pytest.approx([0.2] * 3)
    assert network[0].momentum == 0.1
    assert not network.training


def test_int8_is_a_smaller_version_beside_the_live_one(tmp_path: Path):
    repository = ModelRepository(tmp_path / "repository")
    assert add_untrained_versions(repository, "untrained", "light", ["fp32", "int8"]) == [1, 2]
    assert repository.resolve("untrained") == 1
    fp32, int8 = (repository.verify("untrained", version) for version in (1, 2))
    assert (fp32.precision, int8.precision) == ("fp32", "int8")
    assert int8.files["model.onnx"].bytes < fp32.files["model.onnx"].bytes / 2


def test_what_cannot_be_made_is_answered_with_the_usage(tmp_path: Path):
    for arguments in ([str(tmp_path), "name"], [str(tmp_path), "name", "light", "int4"]):
        with pytest.raises(SystemExit, match="usage: "):
            main(arguments)
    assert not any(tmp_path.iterdir())
