"""Untrained classifiers are real versions, of the size that was asked for."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from services.export.untrained_labels import add_untrained_versions, main
from shared.families.defects.config import DefectsConfig
from shared.repository import ModelRepository


def test_each_precision_is_a_version_that_answers(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    config = DefectsConfig(architecture="convnext_zepto", height=32, width=64, layer_scale=0.1)
    fp32, int8 = add_untrained_versions(repository, "random", config, ["fp32", "int8"])
    assert repository.aliases("random") == {"live": fp32}
    for version, precision in ((fp32, "fp32"), (int8, "int8")):
        manifest = repository.verify("random", version)
        assert (manifest.precision, manifest.task, manifest.source_run) == (
            precision,
            "classification",
            "untrained",
        )
        session = onnxruntime.InferenceSession(repository.path("random", version) / "model.onnx")
        probabilities, maps = session.run(None, {"images": np.zeros((2, 32, 64, 3), np.uint8)})
        assert probabilities.shape == (2, 4)
        assert maps.shape == (2, 4, 1, 2)
        assert np.isfinite(probabilities).all()


@pytest.mark.parametrize("arguments", [[], ["folder", "name"], ["folder", "name", "resnet50", "fp64"]])
def test_wrong_arguments_are_answered_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match=r"usage: .*REPOSITORY NAME ARCHITECTURE \[fp32\|fp16\|int8"):
        main(arguments)
