"""The same pictures through PyTorch and through ONNX Runtime, with outputs by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from services.export.graph import ExportedGraph

Outputs = dict[str, NDArray[Any]]
# images uint8 [N, H, W, 3] -> outputs by name, each with N first
Runner = Callable[[NDArray[np.uint8]], Outputs]


def torch_runner(graph: ExportedGraph, raw_names: Sequence[str]) -> Runner:
    """Return what runs `graph` in PyTorch, as it was trained."""
    names = [*graph.outputs, *raw_names]

    def run(images: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            outputs = graph(torch.from_numpy(images))
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}

    return run


def open_session(model: Path | bytes) -> ort.InferenceSession:
    """Open a model file, or a model in memory, as the detector does on a CPU."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = max(1, torch.get_num_threads())
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def onnx_runner(session: ort.InferenceSession) -> Runner:
    """Return what runs an open session, whose one input takes the images."""
    input_name = session.get_inputs()[0].name
    names = [output.name for output in session.get_outputs()]

    def run(images: NDArray[np.uint8]) -> Outputs:
        return dict(zip(names, session.run(names, {input_name: images}), strict=True))

    return run
