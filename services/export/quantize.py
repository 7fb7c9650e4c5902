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

Method = Literal["minmax", "entropy", "percentile"]

# What a detector spends its time in. Everything else is cheap and loses precision for nothing.
QUANTIZED_OPS = (
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
_WEIGHTED_OPS = {"Conv", "Gemm", "MatMul"}
_METHODS: dict[Method, tuple[CalibrationMethod, dict[str, Any]]] = {
    "minmax": (CalibrationMethod.MinMax, {}),
    "entropy": (CalibrationMethod.Entropy, {"num_bins": 128}),
    "percentile": (CalibrationMethod.Percentile, {"num_bins": 2048, "percentile": 99.99}),
}
_CHUNK = 4  # images whose activations are held at once: 40 MB each for the person network at 416


def quantize(
    source: Path,
    target: Path,
    raw_names: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
    *,
    method: Method = "percentile",
    on_image: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the int8 version of `source` to `target`.

    images: letterboxed uint8 [H, W, 3] from the training set, by which the ranges of activations are
    measured. raw_names: outputs from which on, and with the layer that makes them, everything stays float.
    Raises ValueError without images.
    """
    if not images:
        raise ValueError("int8 needs training images to measure activations with, and there are none")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".int8-") as folder, _quiet():
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
        ranges = _ranges(prepared, images, method, on_image)
        model = onnx.load(prepared)
        quantizer = QDQQuantizer(
            model,
            True,  # per channel
            False,  # all 8 bits of weights: sums saturate only on CPUs before VNNI (docs/repository.md)
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            None,
            float_nodes(model, raw_names),
            list(QUANTIZED_OPS),
            {},
        )
        quantizer.quantize_model()
        quantizer.model.save_model_to_file(str(target), False)
    onnx.checker.check_model(target, full_check=True)


def float_nodes(model: onnx.ModelProto, raw_names: Sequence[str]) -> list[str]:
    """Return the nodes to leave in float: those after the raw outputs, and the head before them.

    The head goes back from a raw output to the first layers with weights, these included: five numbers per
    cell out of a sigmoid want more than 256 steps.
    """
    excluded: set[str] = set()
    makers = {output: node for node in model.graph.node for output in node.output}
    waiting = list(raw_names)
    while waiting:
        node = makers.get(waiting.pop())
        if node is not None and node.name not in excluded:
            excluded.add(node.name)
            if node.op_type not in _WEIGHTED_OPS:
                waiting.extend(node.input)
    after = set(raw_names)
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
    model: Path, images: Sequence[NDArray[np.uint8]], method: Method, on_image: Callable[[int, int], None]
) -> TensorsData:
    calibration_method, options = _METHODS[method]
    calibrator = create_calibrator(
        model,
        list(QUANTIZED_OPS),
        augmented_model_path=str(model.with_name("augmented.onnx")),
        calibrate_method=calibration_method,
        providers=["CPUExecutionProvider"],
        extra_options=options,
    )
    name = onnx.load(model).graph.input[0].name
    for start in range(0, len(images), _CHUNK):
        calibrator.collect_data(_Images(name, images[start : start + _CHUNK]))
        on_image(min(start + _CHUNK, len(images)), len(images))
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
