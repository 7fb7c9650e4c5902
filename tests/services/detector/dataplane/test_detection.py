"""Pre- and post-processing, with candidates written by hand."""

import numpy as np
import pytest

from services.detector.dataplane.problems import FixedSuppression, InferenceFailed
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.dataplane.tasks.detection import DetectionTask
from shared.repository.manifest import FileEntry, Manifest, complete
from shared.vision.letterbox import fit_letterbox
from tests.fixtures.tiny_detection_model import tiny_manifest
from tests.services.detector.pictures import encode, two_rectangles

NOTHING = Overrides()
SAME_SIZE = fit_letterbox((96, 96), (96, 96))


def manifest(**changes: object) -> Manifest:
    entry = FileEntry(sha256="0" * 64, bytes=1)
    made = complete(tiny_manifest(), name="m", version=1, files={"model.onnx": entry})
    return made.model_copy(update=changes)


def task(**changes: object) -> DetectionTask:
    return DetectionTask(manifest(**changes), max_pixels=10_000_000, jpeg_quality=90)


def candidates(count: int | None = None) -> Tensors:
    """Two boxes of class 0 with IoU 0.6 (overlap 75 of 125), one of class 1 in the same place, one apart."""
    outputs: Tensors = {
        "boxes": np.array(
            [[[0, 0, 10, 10], [0, 2.5, 10, 12.5], [0, 0, 10, 10], [50, 50, 60, 60]]], np.float32
        ),
        "scores": np.array([[0.9, 0.8, 0.7, 0.6]], np.float32),
        "labels": np.array([[0, 0, 1, 0]], np.int64),
    }
    return outputs if count is None else outputs | {"num_detections": np.array([count], np.int64)}


def scores(made: DetectionTask, outputs: Tensors, overrides: Overrides = NOTHING) -> list[float]:
    return made.detections(outputs, SAME_SIZE, overrides).scores.astype(np.float64).round(6).tolist()


def test_suppression_is_per_class_and_follows_the_requests_threshold() -> None:
    assert scores(task(), candidates()) == [0.9, 0.7, 0.6]
    assert scores(task(), candidates(), Overrides(iou_threshold=0.59)) == [0.9, 0.7, 0.6]
    assert scores(task(), candidates(), Overrides(iou_threshold=0.61)) == [0.9, 0.8, 0.7, 0.6]


def test_a_score_equal_to_the_threshold_stays() -> None:
    outputs = candidates()
    outputs["scores"][0] = [0.75, 0.75, 0.5, 0.25]
    assert scores(task(), outputs, Overrides(score_threshold=0.5)) == [0.75, 0.5]
    assert scores(task(), outputs, Overrides(score_threshold=0.0)) == [0.75, 0.5, 0.25]


def test_the_best_are_kept_where_there_are_too_many() -> None:
    assert scores(task(), candidates(), Overrides(max_detections=2)) == [0.9, 0.7]


def test_boxes_come_back_in_the_pixels_of_the_source() -> None:
    # 192 high, 48 wide into 96 by 96: half the size, 24 wide, so 36 columns of padding on either side.
    geometry = fit_letterbox((192, 48), (96, 96))
    outputs = candidates()
    outputs["boxes"][0, 0] = [40, 10, 50, 30]
    found = task().detections(outputs, geometry, Overrides(max_detections=1))
    assert found.boxes.tolist() == [[8, 20, 28, 60]]


def test_with_suppression_in_the_graph_nothing_is_suppressed_again() -> None:
    made = task(end_to_end=True)
    assert scores(made, candidates(count=3)) == [0.9, 0.8, 0.7]
    assert scores(made, candidates(count=3), Overrides(score_threshold=0.75)) == [0.9, 0.8]
    assert scores(made, candidates(count=0)) == []


def test_with_suppression_in_the_graph_an_iou_threshold_is_refused() -> None:
    with pytest.raises(FixedSuppression, match=r"0\.4"):
        task(end_to_end=True).work(b"", Overrides(iou_threshold=0.4))


@pytest.mark.parametrize("tensor", ["boxes", "scores"])
def test_an_answer_that_is_not_finite_is_an_error_and_no_detection(tensor: str) -> None:
    outputs = candidates()
    outputs[tensor].flat[0] = np.nan
    with pytest.raises(InferenceFailed, match="finite"):
        scores(task(), outputs)


def test_a_label_without_a_name_is_an_error() -> None:
    outputs = candidates()
    outputs["labels"][0, 0] = 3
    with pytest.raises(InferenceFailed, match="label 3"):
        scores(task(), outputs)


def test_the_graph_gets_what_its_manifest_asks_for() -> None:
    made = task()
    inputs, geometry = made.pictures.letterbox(made.pictures.decode(encode(two_rectangles())))
    assert list(inputs) == ["images"]
    assert inputs["images"].dtype == np.uint8
    assert np.array_equal(inputs["images"], two_rectangles()[None])
    assert geometry.source_size == (96, 96)
