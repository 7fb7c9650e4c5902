"""From output tensors to the body of an answer: a JSON object, and behind it what was asked for as binary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.session import Tensors
from services.detector.oip.byte_elements import write_elements
from services.detector.oip.datatypes import name_of
from services.detector.oip.json_data import write_array, write_document
from services.detector.oip.request import InferRequest


@dataclass(frozen=True, slots=True)
class AnswerBody:
    """`json_bytes` is the length of the JSON object in front of binary data; None where there is none."""

    content: bytes
    json_bytes: int | None


def write_answer(request: InferRequest, model: str, version: int, tensors: Mapping[str, Any]) -> AnswerBody:
    """Return the answer to `request`: `tensors` in the order and the form that it asks for.

    Raises WrongRequest where it wants as JSON what JSON cannot hold.
    """
    wanted = (
        [(name, request.binary_outputs) for name in tensors]
        if request.outputs is None
        else [(output.name, output.binary) for output in request.outputs]
    )
    outputs: list[dict[str, Any]] = []
    parts: list[Any] = []
    for name, binary in wanted:
        array = tensors[name]
        output: dict[str, Any] = {"name": name, "datatype": name_of(array.dtype), "shape": list(array.shape)}
        if binary:
            part = _binary(array)
            parts.append(part)
            output["parameters"] = {"binary_data_size": len(part)}
        else:
            output["data"] = write_array(array, name)
        outputs.append(output)
    document: dict[str, Any] = {} if request.id is None else {"id": request.id}
    document |= {"model_name": model, "model_version": str(version), "outputs": outputs}
    text = write_document(document)
    if not parts:
        return AnswerBody(text, None)
    return AnswerBody(b"".join([text, *parts]), len(text))


def join_rows(answers: list[Tensors]) -> Tensors:
    """Return tensors [rows, …] one below the other, zeros filling the rest of those that are shorter.

    Lists of different lengths, as the detections of several pictures, so fit in one tensor; their task states
    how many of each count.
    """
    if len(answers) == 1:
        return answers[0]
    return {name: _stacked([answer[name] for answer in answers]) for name in answers[0]}


def _stacked(arrays: list[NDArray[Any]]) -> NDArray[Any]:
    inner = np.max([array.shape[1:] for array in arrays], axis=0, initial=0).astype(int)
    if all(array.shape[1:] == tuple(inner) for array in arrays):
        return np.concatenate(arrays)
    joined = np.zeros((sum(len(array) for array in arrays), *inner), arrays[0].dtype)
    row = 0
    for array in arrays:
        joined[(slice(row, row + len(array)), *(slice(size) for size in array.shape[1:]))] = array
        row += len(array)
    return joined


def _binary(array: NDArray[Any]) -> "bytes | memoryview[Any]":
    """Return an array's bytes in row-major order, without a copy where it lies so already."""
    if array.dtype == np.object_:
        return write_elements(array.reshape(-1))
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
