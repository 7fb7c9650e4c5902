"""The protocol's names for the types of tensor elements, and numpy's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

BYTES = "BYTES"

# Little-endian, as the binary tensor data extension lays down. BF16 is missing: numpy has no such type.
NUMPY: Mapping[str, "np.dtype[Any]"] = MappingProxyType(
    {
        "BOOL": np.dtype("bool"),
        "UINT8": np.dtype("u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
    }
)
_NAMES = {dtype: name for name, dtype in NUMPY.items()}


def name_of(dtype: "np.dtype[Any] | str") -> str:
    """Return the protocol's name of a numpy type, BYTES for Python objects; KeyError where it has none."""
    found = np.dtype(dtype)
    return BYTES if found == np.object_ else _NAMES[found]
