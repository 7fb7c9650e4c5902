"""Suppression in the graph keeps what shared.vision.nms keeps, whatever the candidates look like."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from services.export.tasks.detection_suppression import append_suppression
from shared.vision.nms import nms

CANDIDATES, CLASSES = 50, 3


def candidates_as_outputs(path: Path) -> None:
    """Write a graph whose candidates are its inputs."""
    shapes = {
        "boxes": (TensorProto.FLOAT, [4]),
        "scores": (TensorProto.FLOAT, []),
        "labels": (TensorProto.INT64, []),
    }
    values = {
        prefix: [
            helper.make_tensor_value_info(prefix + name, kind, ["batch", CANDIDATES, *rest])
            for name, (kind, rest) in shapes.items()
        ]
        for prefix in ("in_", "")
    }
    nodes = [helper.make_node("Identity", ["in_" + name], [name]) for name in shapes]
    graph = helper.make_graph(nodes, "candidates", values["in_"], values[""])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, path)


@pytest.mark.parametrize("max_detections", [5, 20, 80])
@pytest.mark.parametrize("score_threshold", [0.0, 0.3])
def test_random_candidates(tmp_path: Path, max_detections: int, score_threshold: float) -> None:
    path = tmp_path / "model.onnx"
    candidates_as_outputs(path)
    append_suppression(
        path,
        classes=CLASSES,
        score_threshold=score_threshold,
        iou_threshold=0.5,
        max_detections=max_detections,
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    for _ in range(25):
        count = int(rng.integers(1, 4))
        corners = rng.uniform(0, 60, (count, CANDIDATES, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(5, 40, corners.shape)], -1).astype(np.float32)
        # Two decimals, so that equal scores and scores equal to the threshold occur.
        scores = -np.sort(-rng.uniform(0, 1, (count, CANDIDATES)).round(2).astype(np.float32), axis=1)
        labels = rng.integers(0, CLASSES, (count, CANDIDATES))
        names = ["boxes", "scores", "labels", "num_detections"]
        feed = {"in_boxes": boxes, "in_scores": scores, "in_labels": labels}
        got_boxes, got_scores, got_labels, numbers = session.run(names, feed)
        assert got_boxes.shape == (count, max_detections, 4)
        for index in range(count):
            enough = np.flatnonzero(scores[index] >= np.float32(score_threshold))
            kept = enough[
                nms(boxes[index][enough], scores[index][enough], labels[index][enough], 0.5, max_detections)
            ]
            assert numbers[index] == len(kept)
            np.testing.assert_array_equal(got_boxes[index][: len(kept)], boxes[index][kept])
            np.testing.assert_array_equal(got_scores[index][: len(kept)], scores[index][kept])
            np.testing.assert_array_equal(got_labels[index][: len(kept)], labels[index][kept])
            assert not got_boxes[index][len(kept) :].any()
