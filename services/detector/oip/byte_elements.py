"""BYTES tensors: each element is its length, 4 bytes little-endian, and then so many bytes."""

import struct
from collections.abc import Iterable

from services.detector.oip.problems import WrongRequest

_LENGTH = struct.Struct("<I")


def read_elements(raw: memoryview, count: int, name: str) -> list[bytes]:
    """Return the `count` elements of input `name`; raises WrongRequest where `raw` does not hold them."""
    elements: list[bytes] = []
    at = 0
    while at < len(raw) and len(elements) < count:
        if at + _LENGTH.size > len(raw):
            raise WrongRequest(
                f"element {len(elements)} of input '{name}' begins {len(raw) - at} bytes before the end of "
                "its data, and its length alone takes 4"
            )
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + size > len(raw):
            raise WrongRequest(
                f"element {len(elements)} of input '{name}' states a length of {size} bytes and "
                f"{len(raw) - at} are left"
            )
        elements.append(bytes(raw[at : at + size]))
        at += size
    if len(elements) != count or at != len(raw):
        raise WrongRequest(
            f"input '{name}' got unexpected elements count: its shape makes {count}, its {len(raw)} bytes "
            f"hold {len(elements)} and {len(raw) - at} bytes more"
        )
    return elements


def write_elements(elements: Iterable[bytes]) -> bytes:
    """Return `elements` one after the other, each behind its length."""
    return b"".join(part for element in elements for part in (_LENGTH.pack(len(element)), element))
