"""ONNX Runtime sessions: how they are opened, and what they really run on."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shared.repository.manifest import Manifest, TensorSpec

Tensors = dict[str, NDArray[Any]]

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(int64)": "int64",
}


class UnusableGraph(Exception):
    """A graph that ONNX Runtime refuses, or whose tensors are not those in its manifest."""


@dataclass(frozen=True, slots=True)
class SessionOptions:
    provider: Literal["cpu", "cuda"] = "cpu"
    intra_op_threads: int = 1


class Session:
    """One graph ready to run, from any number of threads at once."""

    def __init__(self, session: ort.InferenceSession, asked: str) -> None:
        self._session = session
        self._outputs = [output.name for output in session.get_outputs()]
        self.provider_asked = asked
        self.provider: str = session.get_providers()[0]

    @property
    def fell_back(self) -> bool:
        """Whether it runs on another provider than was asked for; ONNX Runtime does so silently."""
        return self.provider != self.provider_asked

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Return every output by name for `inputs` by name, each with the batch as first dimension."""
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def open_session(model: Path, manifest: Manifest, options: SessionOptions) -> Session:
    """Open the graph in `model` and check it against its manifest; raises UnusableGraph."""
    asked = _PROVIDERS[options.provider]
    # Naming a provider that this build lacks only warns; what is missing shows in Session.fell_back.
    providers = [name for name in (asked, "CPUExecutionProvider") if name in ort.get_available_providers()]
    ort_options = ort.SessionOptions()
    ort_options.intra_op_num_threads = options.intra_op_threads
    ort_options.inter_op_num_threads = 1
    # Spinning threads cost a quarter of the CPU and a third of the throughput (docs/benchmarks.md).
    ort_options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(model), ort_options, providers=list(dict.fromkeys(providers)))
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise UnusableGraph(f"ONNX Runtime cannot load {model}: {error}") from error
    _check_tensors("input", session.get_inputs(), manifest.inputs, exact=True)
    _check_tensors("output", session.get_outputs(), manifest.outputs, exact=False)
    return Session(session, asked)


def warm_up(session: Session, manifest: Manifest, batch_sizes: range) -> None:
    """Run black pictures in each of `batch_sizes`, so that the first request pays for no allocation."""
    for size in batch_sizes:
        session.run(
            {
                spec.name: np.zeros((size, *(max(1, n) for n in spec.shape[1:])), spec.dtype)
                for spec in manifest.inputs
            }
        )


def _check_tensors(kind: str, found: list[Any], stated: list[TensorSpec], *, exact: bool) -> None:
    by_name = {tensor.name: tensor for tensor in found}
    if exact and by_name.keys() != {spec.name for spec in stated}:
        raise UnusableGraph(
            f"the graph has the {kind}s {sorted(by_name)}, its manifest states {[s.name for s in stated]}"
        )
    for spec in stated:
        tensor = by_name.get(spec.name)
        if tensor is None:
            raise UnusableGraph(f"the graph has no {kind} {spec.name!r}, only {sorted(by_name)}")
        dtype = _DTYPES.get(tensor.type, tensor.type)
        if dtype != spec.dtype:
            raise UnusableGraph(
                f"{kind} {spec.name!r} is {dtype} in the graph and {spec.dtype} in the manifest"
            )
        # A free dimension is a name or None in ONNX and -1 in the manifest; a fixed one has to be the same.
        sizes = [size if isinstance(size, int) else -1 for size in tensor.shape]
        if len(sizes) != len(spec.shape) or any(
            -1 not in pair and pair[0] != pair[1] for pair in zip(sizes, spec.shape, strict=True)
        ):
            raise UnusableGraph(
                f"{kind} {spec.name!r} has the shape {sizes} in the graph and {spec.shape} in the manifest"
            )
