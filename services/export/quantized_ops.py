"""Which operations of a graph are worth computing in int8."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx

# What a convolutional network with batch normalisation spends its time in. Everything else is cheap and
# loses precision for nothing.
CONVOLUTIONAL = (
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "Gemm",
    "GlobalAveragePool",
    "LeakyRelu",
    "MatMul",
    "MaxPool",
    "Relu",
    "Resize",
)
# With layer normalisation the sums between the blocks stay in float: their few large channels would take
# the steps from all others, and the normalisation wants float anyway.
NORMALIZED = ("Conv", "MatMul")


@dataclass(frozen=True, slots=True)
class QuantizationPlan:
    """ops: the operations to quantise. options: further ones of ONNX Runtime's quantiser."""

    ops: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


def plan(model: onnx.ModelProto) -> QuantizationPlan:
    """Return what to quantise of a graph, by the normalisation that it holds.

    The products of pointwise layers before an activation such as GELU, which has no int8 kernel on a CPU,
    come out in float: rounding them to 8 bits only to widen them again costs time and precision.
    """
    if any(node.op_type == "LayerNormalization" for node in model.graph.node):
        return QuantizationPlan(NORMALIZED, {"OpTypesToExcludeOutputQuantization": ["MatMul"]})
    return QuantizationPlan(CONVOLUTIONAL)
