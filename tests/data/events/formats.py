"""Small writers of event files, from the published descriptions of the formats; nothing here reads them."""

from pathlib import Path
from typing import NamedTuple

import h5py
import hdf5plugin
import numpy as np


class Event(NamedTuple):
    t: int
    x: int
    y: int
    p: int


def raw_header(evt: str, size: tuple[int, int] | None = (720, 1280)) -> bytes:
    lines = ["% camera_integrator_name Prophesee", f"% evt {evt}"]
    if size:
        lines += [f"% format EVT{evt[0]};height={size[0]};width={size[1]}", f"% geometry {size[1]}x{size[0]}"]
    return "".join(f"{line}\n" for line in [*lines, "% end"]).encode()


def dat_header(size: tuple[int, int] | None = (240, 304)) -> bytes:
    lines = ["% Data file containing CD events.", "% Date 2020-09-14 14:18:29", "% Version 2"]
    if size:
        lines += [f"% Width {size[1]}", f"% Height {size[0]}"]
    return "".join(f"{line}\n" for line in lines).encode() + bytes([12, 8])


def dat_records(events: list[Event]) -> bytes:
    """t modulo 2^32, then x in bits 0-13, y in 14-27, polarity from 28."""
    return b"".join(
        (t % 2**32).to_bytes(4, "little") + (x | y << 14 | p << 28).to_bytes(4, "little")
        for t, x, y, p in events
    )


def evt2_words(events: list[Event]) -> bytes:
    """A time word before every event whose upper 28 bits differ from the last; events take 6 bits of time."""
    words, high = [], -1
    for t, x, y, p in events:
        if t >> 6 != high:
            high = t >> 6
            words.append(0x8 << 28 | high % 2**28)
        words.append(p << 28 | (t & 0x3F) << 22 | x << 11 | y)
    return b"".join(word.to_bytes(4, "little") for word in words)


def evt3_words(events: list[Event], *, vectors: bool = False) -> list[int]:
    """Words that change time, row or column state only where the event needs it.

    With `vectors`, events that share time, row and polarity and lie within 12 rising columns become a vector.
    """
    words: list[int] = []
    high = low = row = -1
    place = 0
    while place < len(events):
        t, x, y, p = events[place]
        if t >> 12 != high:
            high = t >> 12
            words.append(0x8 << 12 | high % 4096)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        group = [x]
        while vectors and place + len(group) < len(events):
            other = events[place + len(group)]
            if (other.t, other.y, other.p) != (t, y, p) or not group[-1] < other.x < x + 12:
                break
            group.append(other.x)
        if len(group) > 1:
            words += [0x3 << 12 | p << 11 | x, 0x4 << 12 | sum(1 << column - x for column in group)]
        else:
            words.append(0x2 << 12 | p << 11 | x)
        place += len(group)
    return words


def evt3_bytes(words: list[int]) -> bytes:
    return b"".join(word.to_bytes(2, "little") for word in words)


def write_columns(
    path: Path, events: list[Event], size: tuple[int, int] | None = (240, 304), **changes
) -> Path:
    """RVT's and eTraM's layout."""
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        for name, kind in {"t": "i8", "x": "u2", "y": "u2", "p": "i2"}.items():
            values = changes.get(name, [getattr(event, name) for event in events])
            data = np.asarray(values, changes.get(f"{name}_kind", kind))
            chunks = (64,) if len(values) >= 64 else None
            group.create_dataset(name, data=data, chunks=chunks, **changes.get("options", {}))
        if size:
            group["height"], group["width"] = size
    return path


def write_records(path: Path, events: list[Event], size: tuple[int, int] | None = (720, 1280)) -> Path:
    """Metavision's layout, compressed with Blosc."""
    kind = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    records = np.array([(x, y, p, t) for t, x, y, p in events], kind)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "CD/events", data=records, chunks=(64,), compression=hdf5plugin.Blosc(cname="zstd")
        )
        if size:
            file.attrs["geometry"] = f"{size[1]}x{size[0]}"
    return path


def box_records(rows: list[tuple], *, old: bool = False) -> np.ndarray:
    """Rows of (t, x, y, w, h, class, track, confidence)."""
    time, confidence = ("ts", "confidence") if old else ("t", "class_confidence")
    return np.array(rows, [(time, "<i8"), ("x", "<f4"), ("y", "<f4"), ("w", "<f4"), ("h", "<f4"),
                           ("class_id", "<u4"), ("track_id", "<u4"), (confidence, "<f4")])  # fmt: skip
