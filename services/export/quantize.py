"""Static int8: QDQ, unsigned activations and signed weights per channel, decode and head left in float."""

import contextlib
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from services.export.quantized_ops import plan

Method = Literal["minmax", "entropy", "percentile"]

_WEIGHTED_OPS = {"Conv", "Gemm", "MatMul"}
_FEW_CHANNELS = 8
_METHODS: dict[Method, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 128}),
    "percentile": (CalibrationMethod.Percentile, {"num_bins": 2048, "percentile": 99.99}),
}
# Pixels whose activations are held at once: 4 pictures of 416 x 416, 40 MB each in the person network.
# A larger one is taken alone; in ConvNeXt-Tiny at 256 x 1600 it comes to 0.8 GB.
_CHUNK_PIXELS = 4 * 416 * 416


def quantize(
    source: Path,
    target: Path,
    outputs: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
    *,
    method: Method = "percentile",
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the int8 version of `source` to `target`.

    images: letterboxed uint8 [H, W, 3] from the training set, by which the ranges of activations are
    measured. outputs: from the layers that make these on, everything stays float.
    Raises ValueError without images.
    """
    if not images:
        raise ValueError("int8 needs training images to measure activations with, and there are none")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".int8-") as folder, _quiet():
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        chosen = plan(model)
        left_float = float_nodes(model, outputs)
        ranges = _ranges(prepared, chosen.ops, images, method, on_image)
        quantizer = QDQQuantizer(
            model,
            True,  # per channel
            False,  # all 8 bits of weights: sums saturate only on CPUs before VNNI (docs/repository.md)
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            None,
            left_float,
            list(chosen.ops),
            dict(chosen.options),
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target), False)
    onnx.checker.check_model(target, full_check=True)


def float_nodes(model: onnx.ModelProto, outputs: Sequence[str]) -> list[str]:
    """Return the nodes to leave in float: those after `outputs`, the head before them, and gates.

    The head goes back from an output to the first layers with weights, these included: five numbers per
    cell out of a sigmoid want more than 256 steps. A gate is a convolution to a few channels inside, such
    as CBAM's over places: next to nothing in time, and it scales everything behind it.
    """
    channels = {tensor.name: tensor.dims[0] for tensor in model.graph.initializer if tensor.dims}
    excluded = {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and channels.get(node.input[1], _FEW_CHANNELS) < _FEW_CHANNELS
    }
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting = list(outputs)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in excluded:
            excluded.add(node.name)
            if node.op_type not in _WEIGHTED_OPS:
                waiting.extend(node.input)
    after = set(outputs)
    for node in model.graph.node:  # in topological order, which ONNX demands
        if after.intersection(node.input):
            excluded.add(node.name)
            after.update(node.output)
    return sorted(excluded)


class _Images:
    """What ONNX Runtime's calibrators read from: `get_next` until None."""

    def __init__(self, name: str, images: Sequence[NDArray[np.uint8]]) -> None:
        self._name = name
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        image = next(self._images, None)
        return None if image is None else {self._name: image[None]}


def _ranges(
    model: Path,
    ops: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
    method: Method,
    on_image: Callable[[int, int], None],
) -> TensorsData:
    calibration_method, options = _METHODS[method]
    calibrator = create_calibrator(
        model,
        list(ops),
        augmented_model_path=str(model.with_name("augmented.onnx")),
        calibrate_method=calibration_method,
        providers=["CPUExecutionProvider"],
        extra_options=options,
    )
    name = onnx.load(model).graph.input[0].name
    chunk = max(1, _CHUNK_PIXELS // (images[0].shape[0] * images[0].shape[1]))
    for start in range(0, len(images), chunk):
        calibrator.collect_data(_Images(name, images[start : start + chunk]))
        on_image(min(start + chunk, len(images)), len(images))
    return calibrator.compute_data()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser's prints off stdout, which belongs to results, and its hints out of the log."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(max(before, logging.ERROR))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(before)
