"""Tensors as JSON: flat in row-major order, or nested as their shape is."""

import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.detector.oip.datatypes import BYTES, NUMPY
from services.detector.oip.problems import WrongRequest

# What stands for an element in JSON, by the kind of the numpy type.
_ALLOWED: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "an integer"),
    "u": (frozenset({int}), "an integer"),
    "f": (frozenset({int, float}), "a number"),
}


def read_document(text: "bytes | memoryview[int]") -> Any:
    """Return the JSON value in `text`, with NaN and Infinity allowed as tritonclient writes them.

    Raises WrongRequest for anything else that is no JSON.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raw = bytes(text)
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise WrongRequest(f"failed to parse the request JSON: {error}") from error
    try:
        document = json.loads(raw)
        orjson.dumps(document)  # halves of surrogate pairs and numbers past 64 bits, as orjson refuses them
    except (ValueError, TypeError, RecursionError) as error:
        raise WrongRequest(f"failed to parse the request JSON: {error}") from error
    return document


def read_elements(data: Any, shape: tuple[int, ...], name: str) -> list[bytes]:
    """Return the elements of a BYTES tensor, which JSON gives as text; raises WrongRequest."""
    elements = _flat(data, shape, name)
    if unfit := {type(element).__name__ for element in elements if type(element) is not str}:
        raise WrongRequest(f"input '{name}' has BYTES data that is {_listed(unfit)}; write a string for each")
    return [element.encode() for element in elements]


def read_array(data: Any, datatype: str, shape: tuple[int, ...], name: str) -> NDArray[Any]:
    """Return JSON data as an array [shape] of `datatype`; raises WrongRequest where a value does not fit."""
    dtype = NUMPY[datatype]
    elements = _flat(data, shape, name)
    allowed, wanted = _ALLOWED[dtype.kind]
    if unfit := set(map(type, elements)) - allowed:
        raise WrongRequest(
            f"input '{name}' has {datatype} data that is {_listed(kind.__name__ for kind in unfit)}; "
            f"write {wanted} for each element"
        )
    try:
        with np.errstate(over="raise"):
            # By way of FP64, so that a number too large for the type is noticed and not made infinite.
            array = np.array(elements, np.float64 if dtype.kind == "f" else dtype).astype(dtype, copy=False)
    except (OverflowError, FloatingPointError) as error:
        raise WrongRequest(f"input '{name}' has a number that {datatype} cannot hold: {error}") from error
    return array.reshape(shape)


def write_array(array: NDArray[Any], name: str) -> Any:
    """Return output `name` as what `write_document` can write: flat, in row-major order.

    Raises WrongRequest for bytes that are no text, which JSON cannot hold.
    """
    if array.dtype == np.object_:
        try:
            return [element.decode() for element in array.reshape(-1)]
        except UnicodeDecodeError as error:
            raise WrongRequest(
                f"output '{name}' holds bytes that are no text ({error}); ask for it with binary_data true"
            ) from error
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.kind == "f" and not np.isfinite(flat).all():
        return flat.astype(np.float64).tolist()
    return flat


def write_document(document: dict[str, Any]) -> bytes:
    """Return `document` as JSON. NaN and Infinity stand as such, which tritonclient reads."""
    if _has_lists_of_numbers(document):
        return json.dumps(document, default=_tolist, ensure_ascii=False, separators=(",", ":")).encode()
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)


def _flat(data: Any, shape: tuple[int, ...], name: str) -> list[Any]:
    """Return the elements of `data`, which is flat or nested as `shape` says."""
    if not isinstance(data, list):
        raise WrongRequest(f"input '{name}' has data that is no list but {type(data).__name__}")
    count = math.prod(shape)
    depth, elements = 1, data
    while elements and isinstance(elements[0], list) and depth < len(shape):
        size = shape[depth]
        if any(type(part) is not list or len(part) != size for part in elements):
            raise WrongRequest(
                f"input '{name}' has nested data that is not [{','.join(map(str, shape))}]: each list at "
                f"depth {depth + 1} has to have {size} elements"
            )
        elements = list(itertools.chain.from_iterable(elements))
        depth += 1
    if len(elements) != count:
        raise WrongRequest(f"input '{name}' got unexpected elements count {len(elements)}, expected {count}")
    return elements


def _has_lists_of_numbers(document: dict[str, Any]) -> bool:
    return any(
        isinstance(output.get("data"), list) and output["datatype"] != BYTES
        for output in document.get("outputs", ())
    )


def _tolist(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def _listed(kinds: Iterable[str]) -> str:
    return " and ".join(sorted(kinds))
