"""Graphs that a benchmark makes from a model: one that costs nothing, and one that answers otherwise."""

import importlib.util

import numpy as np

from shared.repository.manifest import Manifest

SCORE_FACTOR = 0.75
BOX_SHIFT_PX = 6.0  # of the graph's input
FOUND = 8  # what the free graph finds in every picture


class NoOnnx(RuntimeError):
    """The package `onnx`, which writes graphs, is not installed."""


def require_onnx() -> None:
    """Raise NoOnnx with what to do about it."""
    if importlib.util.find_spec("onnx") is None:
        raise NoOnnx("this needs the Python package 'onnx'; install the `worker` extra")


def free_graph(manifest: Manifest) -> bytes:
    """Return a graph with the inputs and outputs of `manifest`'s that takes next to no time.

    It finds FOUND boxes at fixed places; their scores follow one pixel in the middle of the picture, so that
    answers to different pictures differ.
    """
    require_onnx()
    from onnx import TensorProto, helper, numpy_helper

    images, height, width = manifest.inputs[0], manifest.preprocessing.height, manifest.preprocessing.width
    candidates = next(spec for spec in manifest.outputs if spec.name == "scores").shape[1]
    if candidates < 1:
        candidates = 300
    found = min(FOUND, candidates)
    boxes = np.zeros((1, candidates, 4), np.float32)
    left = np.arange(found) * width / found
    boxes[0, :found] = np.stack([left, left * 0, left + width / found, left * 0 + height / 2], axis=1)
    base, slope = np.zeros((2, 1, candidates), np.float32)
    base[0, :found], slope[0, :found] = np.linspace(0.98, 0.9, found), -0.3
    constants = {
        "boxes_once": boxes,
        "labels_once": np.zeros((1, candidates), np.int64),
        "base": base,
        "slope": slope,
        "middle": np.array([height // 2, width // 2, 0]),
        "behind": np.array([height // 2 + 1, width // 2 + 1, 1]),
        "axes": np.array([1, 2, 3]),
        "inner_axes": np.array([2, 3]),
        "full": np.float32(255),
        "corners": np.array([1, 1]),
        "first": np.array([0]),
        "second": np.array([1]),
        "zero": np.array([0]),
        "one": np.array([1]),
    }
    node = helper.make_node
    nodes = [
        node("Slice", [images.name, "middle", "behind", "axes"], ["corner"]),
        node("Cast", ["corner"], ["level"], to=TensorProto.FLOAT),
        node("Div", ["level", "full"], ["unit"]),
        node("Squeeze", ["unit", "inner_axes"], ["pixel"]),  # [N, 1]
        node("Mul", ["pixel", "slope"], ["lowered"]),  # [N, K]
        node("Add", ["base", "lowered"], ["scores"]),
        node("Shape", [images.name], ["batch_size"], start=0, end=1),
        node("Concat", ["batch_size", "corners"], ["box_shape"], axis=0),
        node("Expand", ["boxes_once", "box_shape"], ["boxes"]),
        node("Concat", ["batch_size", "one"], ["label_shape"], axis=0),
        node("Expand", ["labels_once", "label_shape"], ["labels"]),
    ]
    used = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "no_model",
        [helper.make_tensor_value_info(images.name, TensorProto.UINT8, ["batch", height, width, 3])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", candidates, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", candidates]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", candidates]),
        ],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
            if name in used
        ],
    )
    document = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    document.ir_version = 10
    document_bytes: bytes = document.SerializeToString()
    return document_bytes


def changed_graph(model: bytes) -> bytes:
    """Return the graph with every score times SCORE_FACTOR and every box moved by BOX_SHIFT_PX.

    So its answers can be told from the original's, each by each.
    """
    require_onnx()
    import onnx
    from onnx import helper, numpy_helper

    document = onnx.load_model_from_string(model)
    graph = document.graph
    for output, operator, value in (("scores", "Mul", SCORE_FACTOR), ("boxes", "Add", BOX_SHIFT_PX)):
        inner, constant = f"{output}_before_change", f"{output}_change"
        for each in graph.node:
            each.output[:] = [inner if name == output else name for name in each.output]
            each.input[:] = [inner if name == output else name for name in each.input]
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), constant))
        graph.node.append(helper.make_node(operator, [inner, constant], [output]))
    document_bytes: bytes = document.SerializeToString()
    return document_bytes
