"""What is quantised follows from the normalisation in the graph; heads and gates stay in float."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.export.quantize import float_nodes
from services.export.quantized_ops import plan


def model(*nodes: onnx.NodeProto, **weights: tuple[int, ...]) -> onnx.ModelProto:
    info = helper.make_tensor_value_info
    tensors = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    outputs = [info(node.output[0], TensorProto.FLOAT, None) for node in nodes[-1:]]
    graph = helper.make_graph(nodes, "g", [info("x", TensorProto.FLOAT, None)], outputs, tensors)
    return helper.make_model(graph)


def test_with_layer_normalisation_sums_stay_in_float() -> None:
    normalized = plan(model(helper.make_node("LayerNormalization", ["x", "scale"], ["y"]), scale=(8,)))
    assert normalized.ops == ("Conv", "MatMul")
    assert normalized.options == {"OpTypesToExcludeOutputQuantization": ["MatMul"]}


def test_without_it_sums_and_activations_are_quantised_too() -> None:
    plain = plan(model(helper.make_node("Relu", ["x"], ["y"])))
    assert {"Add", "Conv", "Gemm", "MaxPool", "Relu"} <= set(plain.ops)
    assert plain.options == {}


def test_a_gate_of_one_channel_and_both_heads_stay_in_float() -> None:
    graph = model(
        helper.make_node("Conv", ["x", "body"], ["a"], name="body"),
        helper.make_node("Conv", ["a", "gate"], ["b"], name="gate"),
        helper.make_node("Mul", ["a", "b"], ["c"], name="scale"),
        helper.make_node("Conv", ["c", "last"], ["d"], name="last"),
        helper.make_node("Conv", ["d", "maps_head"], ["maps"], name="maps_head"),
        helper.make_node("Conv", ["d", "head"], ["e"], name="head"),
        helper.make_node("ReduceMean", ["e"], ["logits"], name="mean"),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"], name="sigmoid"),
        body=(16, 3, 3, 3),
        gate=(1, 16, 7, 7),
        last=(32, 16, 1, 1),
        maps_head=(12, 32, 1, 1),
        head=(12, 32, 1, 1),
    )
    left = float_nodes(graph, ["probabilities", "maps", "logits"])
    assert left == ["gate", "head", "maps_head", "mean", "sigmoid"]
