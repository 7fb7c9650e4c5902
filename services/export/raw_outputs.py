"""The network's raw outputs inside a finished file: hidden from those who serve it, shown to the gate.

So the gate judges the very nodes that are shipped, not a second export of the same network.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import helper


def hide(path: Path, names: Sequence[str]) -> None:
    """Take `names` from the outputs of the file; the tensors stay where they are in the graph."""
    model = onnx.load(path)
    kept = [output for output in model.graph.output if output.name not in names]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save_model(model, path)


def shown(path: Path, tensors: Mapping[str, int]) -> bytes:
    """Return the file as bytes, with inner `tensors`, by name with their ONNX types, as further outputs.

    Raises ValueError if a tensor is not there, which means that the file was not made by this exporter.
    """
    model = onnx.load(path)
    present = {name for node in model.graph.node for name in node.output}
    missing = [name for name in tensors if name not in present]
    if missing:
        raise ValueError(f"{path} holds no tensors called {', '.join(missing)}: the gate cannot compare them")
    for name, dtype in tensors.items():
        model.graph.output.append(helper.make_tensor_value_info(name, dtype, None))
    return model.SerializeToString()
