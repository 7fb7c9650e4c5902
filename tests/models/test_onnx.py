"""The networks through ONNX: the same answers at any batch, and int8 of the layers that cost time."""

from collections import Counter

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from shared.models.architectures import ARCHITECTURES
from shared.models.classifier import ClassifierSpec


class Answers(nn.Module):
    """What a version offers: logits and activation maps."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        features = self.network.features(images)
        return self.network.classify(features), self.network.activation_maps(features)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    spec = ClassifierSpec(classes=4, layer_scale=0.5)
    module = Answers(ARCHITECTURES.load("convnext_zepto_cbam")(spec)).eval()
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    torch.onnx.export(
        module,
        (torch.rand(2, 3, 64, 96),),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=["images"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
        external_data=False,
        verbose=False,
    )
    return module, path


def session(path):
    return ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnx_runtime_agrees_at_every_batch(exported, batch):
    module, path = exported
    images = torch.rand(batch, 3, 64, 96)
    with torch.inference_mode():
        expected = module(images)
    for ours, theirs in zip(expected, session(path).run(None, {"images": images.numpy()}), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


def test_all_costly_layers_are_convolutions_with_constant_weights(exported, tmp_path):
    """Linear layers as MatMul cost a sixth of an int8 version's speed; scales and norms go into weights."""
    import onnx

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(exported[1]), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(tmp_path / "optimized.onnx").graph
    constants = {tensor.name for tensor in graph.initializer}
    kinds = Counter(node.op_type for node in graph.node)
    # stem, 10 blocks of 3, 3 downsamplings, 2 spatial gates, the maps
    assert kinds["Conv"] == 1 + 10 * 3 + 3 + 2 + 1
    assert all(set(node.input[1:]) <= constants for node in graph.node if node.op_type == "Conv")
    assert kinds["MatMul"] == 0
    # 2 channel gates × 2 pools × 2 layers, and the head
    assert kinds["Gemm"] == 2 * 2 * 2 + 1
