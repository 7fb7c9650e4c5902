"""From the tensors of a request to the inputs of a graph, or to encoded pictures.

What the graph takes stands in the version's manifest. The words of the refusals are Triton's, so that what
people know of them, and search for, holds here too.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.session import Tensors
from services.detector.oip import byte_elements, json_data
from services.detector.oip.datatypes import BYTES, NUMPY, name_of
from services.detector.oip.problems import WrongRequest
from services.detector.oip.request import InferRequest, TensorInput
from shared.repository.manifest import Manifest, TensorSpec


def read_raw_request(body: bytes, manifest: Manifest) -> InferRequest:
    """Return the request whose whole body is the one input of a graph (header length 0).

    Every output then comes as binary data. Raises WrongRequest where the graph has several inputs, or the
    size of the body does not give the one free size of its shape.
    """
    if len(manifest.inputs) != 1:
        raise WrongRequest(
            f"raw input needs a model with one input and '{manifest.name}' has {len(manifest.inputs)}; send "
            "the JSON object in front"
        )
    spec = manifest.inputs[0]
    free = [place for place, size in enumerate(spec.shape) if size < 0]
    known_bytes = NUMPY[name_of(spec.dtype)].itemsize * math.prod(size for size in spec.shape if size >= 0)
    if len(free) != 1 or not known_bytes or not body or len(body) % known_bytes:
        raise WrongRequest(
            f"{len(body)} bytes of raw input do not make a shape {_listed(spec.shape)} of "
            f"{name_of(spec.dtype)} for input '{spec.name}' of model '{manifest.name}'; send the JSON object "
            "in front where several sizes are free"
        )
    shape = [*spec.shape]
    shape[free[0]] = len(body) // known_bytes
    tensor = TensorInput(spec.name, name_of(spec.dtype), tuple(shape), None, memoryview(body))
    return InferRequest(inputs=(tensor,), binary_outputs=True)


def encoded_pictures(request: InferRequest, manifest: Manifest, *, max_pictures: int) -> list[bytes] | None:
    """Return the encoded pictures of a request; None where it holds tensors for the graph.

    They are a BYTES tensor [n] or [n, 1] under the name of the graph's one input. Raises WrongRequest.
    """
    tensor = request.inputs[0]
    if tensor.datatype != BYTES or len(request.inputs) != 1 or len(manifest.inputs) != 1:
        return None
    _check_names(request, manifest)
    shape = tensor.shape
    if len(shape) not in (1, 2) or shape[1:] not in ((), (1,)) or not 1 <= shape[0] <= max_pictures:
        raise WrongRequest(
            f"unexpected shape for input '{tensor.name}' for model '{manifest.name}'. Expected [n] or [n,1] "
            f"encoded pictures with n from 1 to {max_pictures}, got {_listed(shape)}"
        )
    if tensor.raw is not None:
        return byte_elements.read_elements(tensor.raw, shape[0], tensor.name)
    return json_data.read_elements(tensor.data, shape, tensor.name)


def graph_inputs(request: InferRequest, manifest: Manifest) -> Tensors:
    """Return the arrays of a request by name, each [rows, …] as the manifest states it.

    Binary data is not copied where its place in the body allows that. Raises WrongRequest for other names,
    types, shapes or sizes, and for inputs of different batch sizes.
    """
    _check_names(request, manifest)
    _check_types_and_shapes(request, manifest)
    rows = {tensor.shape[0] for tensor in request.inputs}
    if len(rows) > 1:
        sizes = ", ".join(f"'{tensor.name}' {tensor.shape[0]}" for tensor in request.inputs)
        raise WrongRequest(f"all inputs of model '{manifest.name}' need one batch size; there are: {sizes}")
    if rows == {0}:
        raise WrongRequest(f"inference request batch-size must be at least 1 for '{manifest.name}'; it is 0")
    return {tensor.name: _array(tensor) for tensor in request.inputs}


def window_input(request: InferRequest, manifest: Manifest) -> NDArray[Any]:
    """Return the one input [1, …] of a request in a sequence, which leaves the states to the server.

    Raises WrongRequest as `graph_inputs` does, and for more than one row.
    """
    names = [spec.name for spec in inputs_of_a_sequence(manifest)]
    states = {state.input for state in manifest.states}
    if given := [tensor.name for tensor in request.inputs if tensor.name in states]:
        raise WrongRequest(
            f"unexpected inference input '{given[0]}' for model '{manifest.name}': a sequence carries its "
            "states itself; leave them out, or send all of them without a sequence_id"
        )
    _check_given(request, names, manifest.name)
    _check_types_and_shapes(request, manifest)
    (tensor,) = request.inputs
    if tensor.shape[0] != 1:
        raise WrongRequest(
            f"inference request to model '{manifest.name}' must specify batch-size 1 due to requirements of "
            f"sequence batcher; it has {tensor.shape[0]}"
        )
    return _array(tensor)


def inputs_of_a_sequence(manifest: Manifest) -> list[TensorSpec]:
    """Return the inputs that are no state, which a request in a sequence brings."""
    states = {state.input for state in manifest.states}
    return [spec for spec in manifest.inputs if spec.name not in states]


def outputs_of_a_sequence(manifest: Manifest) -> list[TensorSpec]:
    """Return the outputs that are no state, which a request in a sequence gets."""
    states = {state.output for state in manifest.states}
    return [spec for spec in manifest.outputs if spec.name not in states]


def check_outputs(request: InferRequest, names: "list[str] | dict[str, Any]", model: str) -> None:
    """Raise WrongRequest where a request asks for an output that is not among `names`."""
    for output in request.outputs or ():
        if output.name not in names:
            raise WrongRequest(
                f"unexpected inference output '{output.name}' for model '{model}'; there are: "
                f"{', '.join(names)}"
            )


def _check_names(request: InferRequest, manifest: Manifest) -> None:
    wanted = [spec.name for spec in manifest.inputs]
    given = {tensor.name for tensor in request.inputs}
    states = [state.input for state in manifest.states]
    if states and not given.intersection(states):
        raise WrongRequest(
            f"inference request to model '{manifest.name}' must specify a non-zero or non-empty correlation "
            f"ID (sequence_id), or bring the states as inputs: {', '.join(states)}"
        )
    _check_given(request, wanted, manifest.name)


def _check_given(request: InferRequest, wanted: list[str], model: str) -> None:
    given = [tensor.name for tensor in request.inputs]
    for name in given:
        if name not in wanted:
            raise WrongRequest(
                f"unexpected inference input '{name}' for model '{model}'; there are: {', '.join(wanted)}"
            )
    if missing := [name for name in wanted if name not in given]:
        raise WrongRequest(
            f"expected {len(wanted)} inputs but got {len(given)} inputs for model '{model}'. Got "
            f"input(s) {given}, but missing required input(s) {missing}. Please provide all required "
            "input(s)."
        )


def _check_types_and_shapes(request: InferRequest, manifest: Manifest) -> None:
    specs = {spec.name: spec for spec in manifest.inputs}
    for tensor in request.inputs:
        _check_type_and_shape(tensor, specs[tensor.name], manifest.name)


def _check_type_and_shape(tensor: TensorInput, spec: TensorSpec, model: str) -> None:
    wanted = name_of(spec.dtype)
    if tensor.datatype != wanted:
        raise WrongRequest(
            f"inference input '{tensor.name}' data-type is '{tensor.datatype}', but model '{model}' expects "
            f"'{wanted}'"
        )
    if len(tensor.shape) != len(spec.shape) or any(
        wanted_size not in (-1, size) for size, wanted_size in zip(tensor.shape, spec.shape, strict=True)
    ):
        raise WrongRequest(
            f"unexpected shape for input '{tensor.name}' for model '{model}'. Expected "
            f"{_listed(spec.shape)}, got {_listed(tensor.shape)}"
        )


def _array(tensor: TensorInput) -> NDArray[Any]:
    if tensor.raw is None:
        return json_data.read_array(tensor.data, tensor.datatype, tensor.shape, tensor.name)
    dtype = NUMPY[tensor.datatype]
    expected = dtype.itemsize * math.prod(tensor.shape)
    if len(tensor.raw) != expected:
        raise WrongRequest(
            f"unexpected total byte size {len(tensor.raw)} for input '{tensor.name}', expecting {expected}"
        )
    array = np.frombuffer(tensor.raw, dtype).reshape(tensor.shape)
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise WrongRequest(f"input '{tensor.name}' is BOOL and has a byte that is neither 0 nor 1")
    # Behind a JSON object of any length elements may stand at odd addresses, which kernels do not expect.
    return array if array.flags.aligned else array.copy()


def _listed(shape: "list[int] | tuple[int, ...]") -> str:
    return f"[{','.join(map(str, shape))}]"
