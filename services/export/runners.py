"""The same inputs through PyTorch and through ONNX Runtime, with inputs and outputs by name."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch
from numpy.typing import NDArray

from services.export.graph import ExportedGraph

Inputs = Mapping[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]
# inputs by name, each with N first -> outputs by name, likewise
Runner = Callable[[Inputs], Outputs]


def torch_runner(graph: ExportedGraph, raw_names: Sequence[str]) -> Runner:
    """Return what runs `graph` in PyTorch, as it was trained. Last inputs may be left out where it allows."""
    names = [*graph.outputs, *raw_names]

    def run(inputs: Inputs) -> Outputs:
        given = [torch.from_numpy(inputs[name]) for name in graph.inputs if name in inputs]
        with torch.inference_mode():
            outputs = graph(*given)
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
    """Return what runs an open session."""
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Inputs) -> Outputs:
        return dict(zip(names, session.run(names, dict(inputs)), strict=True))

    return run
