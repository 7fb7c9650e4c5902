"""Non-maximum suppression inside the graph, for clients that want final detections and no post-processing.

The same as `shared.vision.nms` at the default thresholds: greedy, per class, IoU strictly above the
threshold suppresses, of equal scores the earlier candidate wins.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CANDIDATES = {"boxes": "candidate_boxes", "scores": "candidate_scores", "labels": "candidate_labels"}


def append_suppression(
    path: Path, *, classes: int, score_threshold: float, iou_threshold: float, max_detections: int
) -> None:
    """Put suppression behind the candidates of the ONNX file at `path`.

    The outputs keep their names with K = max_detections, padded with zeros; `num_detections` int64 [N] says
    how many of them count. The candidates stay inside under the names in CANDIDATES.
    """
    model = onnx.load(path)
    graph = model.graph
    _rename(graph, CANDIDATES)
    kept_outputs = [output for output in graph.output if output.name not in CANDIDATES.values()]
    constants = {
        "nms_score_threshold": np.float32(score_threshold),
        "nms_iou_threshold": np.float32(iou_threshold),
        "nms_max_per_class": np.int64(max_detections),
        "nms_classes": np.arange(classes, dtype=np.int64).reshape(1, classes, 1),
        "nms_absent": np.float32(-1),
        "nms_above_absent": np.float32(-0.5),
        "nms_zero": np.float32(0),
        "nms_zero_label": np.int64(0),
        "nms_axis_1": np.array([1]),
        "nms_last": np.array([-1]),
        "nms_columns": np.array([0, 2]),  # picture and candidate
        "nms_first": np.array([0]),
        "nms_padding": np.array([0, 0, 0, max_detections]),
        "nms_one": np.array([1.0], np.float32),
        "nms_corners": np.array([1, 1, 4]),
        "nms_max_detections": np.array([max_detections]),
    }
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()
    )
    graph.node.extend(_survivors())
    graph.node.extend(_best())
    del graph.output[:]
    graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", max_detections, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", max_detections]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", max_detections]),
            helper.make_tensor_value_info("num_detections", TensorProto.INT64, ["batch"]),
            *kept_outputs,
        ]
    )
    onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Rename tensors wherever they occur in the graph."""
    for node in graph.node:
        for tensors in (node.input, node.output):
            for index, tensor in enumerate(tensors):
                tensors[index] = names.get(tensor, tensor)
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)


def _survivors() -> list[onnx.NodeProto]:
    """From the candidates to `nms_scores` [N, K]: the score where a candidate survives, -1 elsewhere."""
    node = helper.make_node
    return [
        node("Less", ["candidate_scores", "nms_score_threshold"], ["nms_low"]),
        node("Where", ["nms_low", "nms_absent", "candidate_scores"], ["nms_candidates"]),
        # NonMaxSuppression wants scores per class [N, C, K]: -1 where a candidate is of another class.
        node("Unsqueeze", ["candidate_labels", "nms_axis_1"], ["nms_labels"]),
        node("Equal", ["nms_labels", "nms_classes"], ["nms_of_class"]),
        node("Unsqueeze", ["nms_candidates", "nms_axis_1"], ["nms_by_row"]),
        node("Where", ["nms_of_class", "nms_by_row", "nms_absent"], ["nms_by_class"]),
        node(
            "NonMaxSuppression",
            [
                "candidate_boxes",
                "nms_by_class",
                "nms_max_per_class",
                "nms_iou_threshold",
                "nms_above_absent",  # a score equal to the threshold counts, and 0 may be the threshold
            ],
            ["nms_selected"],  # int64 [M, 3]: picture, class, candidate
        ),
        node("Gather", ["nms_selected", "nms_columns"], ["nms_where"], axis=1),
        node("Shape", ["nms_where"], ["nms_where_shape"]),
        node("Gather", ["nms_where_shape", "nms_first"], ["nms_count"]),
        node("Expand", ["nms_one", "nms_count"], ["nms_ones"]),
        node("Shape", ["candidate_scores"], ["nms_shape"]),
        node("Expand", ["nms_zero", "nms_shape"], ["nms_none"]),
        node("ScatterND", ["nms_none", "nms_where", "nms_ones"], ["nms_kept"]),
        node("Greater", ["nms_kept", "nms_zero"], ["nms_is_kept"]),
        node("Where", ["nms_is_kept", "nms_candidates", "nms_absent"], ["nms_kept_scores"]),
        # One column per output place, in case there are fewer candidates than max_detections.
        node("Pad", ["nms_kept_scores", "nms_padding", "nms_absent"], ["nms_scores"]),
    ]


def _best() -> list[onnx.NodeProto]:
    """From `nms_scores` to the outputs: the best first, zeros after the last."""
    node = helper.make_node
    return [
        node("TopK", ["nms_scores", "nms_max_detections"], ["nms_top", "nms_padded_order"], axis=1, sorted=1),
        node("Greater", ["nms_top", "nms_above_absent"], ["nms_is_detection"]),
        node("Where", ["nms_is_detection", "nms_top", "nms_zero"], ["scores"]),
        node("Cast", ["nms_is_detection"], ["nms_counted"], to=TensorProto.INT64),
        node("ReduceSum", ["nms_counted", "nms_axis_1"], ["num_detections"], keepdims=0),
        node("Where", ["nms_is_detection", "nms_padded_order", "nms_zero_label"], ["nms_order"]),
        node("GatherElements", ["candidate_labels", "nms_order"], ["nms_top_labels"], axis=1),
        node("Where", ["nms_is_detection", "nms_top_labels", "nms_zero_label"], ["labels"]),
        node("Unsqueeze", ["nms_order", "nms_last"], ["nms_order_column"]),
        node("Expand", ["nms_order_column", "nms_corners"], ["nms_order_corners"]),
        node("GatherElements", ["candidate_boxes", "nms_order_corners"], ["nms_top_boxes"], axis=1),
        node("Unsqueeze", ["nms_is_detection", "nms_last"], ["nms_is_detection_column"]),
        node("Where", ["nms_is_detection_column", "nms_top_boxes", "nms_zero"], ["boxes"]),
    ]
