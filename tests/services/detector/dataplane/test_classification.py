"""Thresholds, labels and heat maps, with outputs written by hand."""

import numpy as np
import pytest

from services.detector.dataplane.problems import (
    InferenceFailed,
    NoActivationMaps,
    UnknownLabel,
    WrongParameter,
)
from services.detector.dataplane.session import Tensors, UnusableGraph
from services.detector.dataplane.tasks.classification import ClassificationTask, Heatmap, LabelOverrides
from shared.repository.manifest import FileEntry, Manifest, TensorSpec, complete
from shared.vision.letterbox import fit_letterbox
from tests.fixtures.tiny_classification_model import TinyClassifier, tiny_classification_manifest

NOTHING = LabelOverrides()
SAME_SIZE = fit_letterbox((64, 128), (64, 128))


def manifest(model: TinyClassifier = TinyClassifier(), **changes: object) -> Manifest:
    entry = FileEntry(sha256="0" * 64, bytes=1)
    draft = tiny_classification_manifest(model)
    made = complete(draft, name="colours", version=1, files={"model.onnx": entry})
    return made.model_copy(update=changes)


def task(model: TinyClassifier = TinyClassifier(), **changes: object) -> ClassificationTask:
    return ClassificationTask(manifest(model, **changes), max_pixels=10_000_000, jpeg_quality=90)


def outputs(*probabilities: float) -> Tensors:
    maps = np.full((1, 3, 8, 16), -1, np.float32)
    maps[0, 1, 2, 5] = 4.0  # green is seen in rows 16 to 23, columns 40 to 47
    return {"probabilities": np.array([probabilities], np.float32), "activation_maps": maps}


def test_a_label_is_present_from_its_own_threshold_on() -> None:
    result = task().classify(outputs(0.5, 0.49, 0.25), SAME_SIZE, NOTHING)
    assert result.present.tolist() == [True, False, True]
    assert result.thresholds.tolist() == [0.5, 0.5, 0.25]
    assert result.heat is None


def test_one_threshold_of_a_request_takes_the_place_of_all() -> None:
    result = task().classify(outputs(0.5, 0.6, 0.9), SAME_SIZE, LabelOverrides(0.6))
    assert result.present.tolist() == [False, True, True]
    assert result.thresholds.tolist() == pytest.approx([0.6] * 3)


def test_heat_lies_where_the_map_is_positive_and_nowhere_else() -> None:
    heat = task().classify(outputs(0.1, 0.9, 0.1), SAME_SIZE, NOTHING, Heatmap("green")).heat
    assert heat is not None
    assert heat.shape == (64, 128)
    assert heat.max() == pytest.approx(1.0)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 16 <= row < 24
    assert 40 <= column < 48
    assert not heat[:8].any()
    assert not heat[:, 64:].any()


def test_without_a_name_the_label_most_above_its_threshold_is_shown() -> None:
    # Blue is 0.35 above its threshold of 0.25, red 0.3 above its 0.5, although red is more probable.
    assert task().classify(outputs(0.8, 0.1, 0.6), SAME_SIZE, NOTHING, Heatmap()).heat_label == 2
    # None is present: green is nearest to its threshold.
    assert task().classify(outputs(0.1, 0.45, 0.0), SAME_SIZE, NOTHING, Heatmap()).heat_label == 1


def test_a_label_that_nothing_speaks_for_has_no_heat() -> None:
    heat = task().classify(outputs(0.1, 0.9, 0.1), SAME_SIZE, NOTHING, Heatmap("red")).heat
    assert heat is not None
    assert not heat.any()


def test_a_label_that_is_present_by_a_low_threshold_has_heat_where_the_map_is_above_it() -> None:
    found = outputs(0.1, 0.9, 0.3)  # blue is present from 0.25 on, the logit -1.0986
    found["activation_maps"][0, 2] = -2.0
    found["activation_maps"][0, 2, 2, 5] = -0.5
    heat = task().classify(found, SAME_SIZE, NOTHING, Heatmap("blue")).heat
    assert heat is not None
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert (row // 8, column // 8) == (2, 5)
    assert heat.max() == pytest.approx(1.0)
    assert not heat[:8].any()


def test_the_padding_is_cut_off_and_the_scale_undone() -> None:
    # 128 x 128 in 64 x 128: half the size, in the middle 64 columns; column 40 is 8 behind the left edge.
    geometry = fit_letterbox((128, 128), (64, 128))
    assert (geometry.pad_x, geometry.scale) == (32, 0.5)
    heat = task().classify(outputs(0.1, 0.9, 0.1), geometry, NOTHING, Heatmap("green")).heat
    assert heat is not None
    assert heat.shape == (128, 128)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    assert 32 <= row < 48
    assert 16 <= column < 32


def test_a_label_there_is_not_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownLabel, match=r"'gren'; did you mean 'green'\? \(there are: red, green, blue\)"):
        task().work(b"", NOTHING, heatmap=Heatmap("gren"))


def test_a_model_without_maps_answers_and_refuses_a_heat_map() -> None:
    made = task(TinyClassifier(maps=False))
    made.work(b"", NOTHING)
    with pytest.raises(NoActivationMaps, match="activation_maps"):
        made.work(b"", NOTHING, heatmap=Heatmap("red"))


@pytest.mark.parametrize("tensor", ["probabilities", "activation_maps"])
def test_an_answer_that_is_not_finite_is_an_error(tensor: str) -> None:
    found = outputs(0.1, 0.9, 0.1)
    found[tensor][:] = np.nan
    with pytest.raises(InferenceFailed, match="finite"):
        task().classify(found, SAME_SIZE, NOTHING, Heatmap("green"))


@pytest.mark.parametrize(
    "shapes", [{"probabilities": [-1, 4]}, {"probabilities": [-1]}, {"activation_maps": [-1, 2, 8, 16]}, {}]
)
def test_outputs_that_do_not_fit_the_labels_are_refused_at_load(shapes: dict[str, list[int]]) -> None:
    there = {"probabilities": [-1, 3], "activation_maps": [-1, 3, 8, 16]} | shapes if shapes else {}
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in there.items()]
    with pytest.raises(UnusableGraph, match="3 labels"):
        task(outputs=specs)


def test_a_picture_as_a_tensor_gives_the_probabilities_as_one() -> None:
    made = task()
    work = made.picture_tensors(_white_png(), {})
    assert work.prepare()["images"].shape == (1, 64, 128, 3)
    answer = work.finish(outputs(0.1, 0.9, 0.2))
    assert list(answer) == ["probabilities"]
    np.testing.assert_array_equal(answer["probabilities"], np.array([[0.1, 0.9, 0.2]], np.float32))
    with pytest.raises(WrongParameter, match="score_threshold"):
        made.picture_tensors(b"", {"score_threshold": 0.5})


def _white_png() -> bytes:
    from tests.services.detector.pictures import encode

    return encode(np.full((20, 40, 3), 255, np.uint8))
