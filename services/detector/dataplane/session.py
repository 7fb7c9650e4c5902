"""ONNX Runtime sessions: how they are opened, and what they really run on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from services.detector.dataplane.bound_runs import BoundRuns
from services.detector.dataplane.providers import CPU, SessionOptions, providers, session_options
from shared.repository.manifest import Manifest, TensorSpec

__all__ = ["Session", "SessionOptions", "Tensors", "UnusableGraph", "open_session", "warm_up"]

Tensors = dict[str, NDArray[Any]]

_DTYPES = {
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(int64)": "int64",
}


class UnusableGraph(Exception):
    """A graph that ONNX Runtime refuses, or whose tensors are not those in its manifest."""


class Session:
    """One graph ready to run, from any number of threads at once.

    `bound` runs it on a device between buffers that stay there.
    """

    def __init__(self, session: ort.InferenceSession, asked: str, bound: BoundRuns | None = None) -> None:
        self._session = session
        self._bound = bound
        self._outputs = [output.name for output in session.get_outputs()]
        self.provider_asked = asked
        self.provider: str = session.get_providers()[0]

    @property
    def fell_back(self) -> bool:
        """Whether it runs on another provider than was asked for; ONNX Runtime does so silently."""
        return self.provider != self.provider_asked

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        """Return every output by name for `inputs` by name, each with the batch as first dimension."""
        if self._bound is not None:
            return self._bound.run(inputs)
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(inputs)), strict=True))


def open_session(model: Path, manifest: Manifest, options: SessionOptions, max_batch: int = 1) -> Session:
    """Open the graph in `model`, for runs of up to `max_batch` rows, and check it against its manifest.

    Raises UnusableGraph.
    """
    try:
        session = ort.InferenceSession(
            str(model),
            session_options(options),
            providers=providers(options, manifest.inputs, max_batch),
        )
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise UnusableGraph(f"ONNX Runtime cannot load {model}: {error}") from error
    _check_tensors("input", session.get_inputs(), manifest.inputs, exact=True)
    _check_tensors("output", session.get_outputs(), manifest.outputs, exact=False)
    return Session(session, options.asked, _bound_runs(session, manifest, options))


def _bound_runs(
    session: ort.InferenceSession, manifest: Manifest, options: SessionOptions
) -> BoundRuns | None:
    """Return runs between fixed buffers, for a graph on a device with inputs free in their batch alone."""
    if session.get_providers()[0] == CPU:
        return None
    if any(size < 0 for spec in manifest.inputs for size in spec.shape[1:]):
        if options.cuda_graphs:
            raise UnusableGraph("CUDA graphs need inputs of a fixed size; switch them off for this model")
        return None
    return BoundRuns(session, device="cuda", graphs=options.cuda_graphs)


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
