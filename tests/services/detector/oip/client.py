"""Calls of tritonclient, with the few lines that every test of them needs."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.services.detector.serving import Served


@contextlib.contextmanager
def client_of(served: Served, **options: Any) -> Iterator[triton.InferenceServerClient]:
    """An unmodified client of a running detector."""
    client = triton.InferenceServerClient(served.url.removeprefix("http://"), **options)
    try:
        yield client
    finally:
        client.close()


def tensor(name: str, array: NDArray[Any], *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return made.set_data_from_numpy(array, binary_data=binary)


def tensors(arrays: dict[str, NDArray[Any]], *, binary: bool = True) -> list[triton.InferInput]:
    return [tensor(name, array, binary=binary) for name, array in arrays.items()]


def pictures(*encoded: bytes, name: str = "images") -> list[triton.InferInput]:
    return [tensor(name, np.array(encoded, np.object_))]


@contextlib.contextmanager
def refused(status: int, *words: str) -> Iterator[None]:
    """Expect the exception that tritonclient makes of `{"error": "…"}`, with these words in it."""
    with pytest.raises(InferenceServerException) as caught:
        yield
    assert caught.value.status() == str(status), caught.value
    message = caught.value.message()
    assert "an exception occurred in the client" not in message
    for word in words:
        assert word in message
