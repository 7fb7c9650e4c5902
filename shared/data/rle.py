"""Run-length masks as Severstal writes them: `start length start length ...`, 1-based and column-major.

Pixel p (1-based) lies in row (p - 1) % height and column (p - 1) // height: down first, then right.
Components spec §16.
"""

import numpy as np
from numpy.typing import NDArray

Runs = NDArray[np.int64]  # [n, 2]: 1-based start and length of each run


class BrokenRle(ValueError):
    """A run-length text that describes no mask; the message says where and why."""


def parse_rle(text: str) -> Runs:
    """Return the runs of `text` as int64 [n, 2] (1-based start, length), in the order they are written.

    Raises BrokenRle for a value that is no whole number, an odd count of values, a start or a length below 1.
    Order and overlap are not judged here; see `in_order`.
    """
    words = text.split()
    values = []
    for position, word in enumerate(words, start=1):
        if not (word.isascii() and word.isdigit()) or len(word) > 15:
            raise BrokenRle(f"value {position} is {word[:20]!r}, not a positive whole number")
        values.append(int(word))
    if len(values) % 2:
        raise BrokenRle(f"{len(values)} values; they must come in pairs of start and length")
    runs = np.array(values, dtype=np.int64).reshape(-1, 2)
    if len(runs) and runs.min() < 1:
        position = int(np.flatnonzero(runs.reshape(-1) < 1)[0]) + 1
        raise BrokenRle(f"value {position} is 0; starts count from 1 and a run has a pixel at least")
    return runs


def in_order(runs: Runs) -> bool:
    """Say whether every run starts after the end of the one before it."""
    return bool((runs[1:, 0] >= runs[:-1].sum(axis=1)).all())


def fits(runs: Runs, height: int, width: int) -> bool:
    """Say whether all runs lie within `height` x `width` pixels."""
    return len(runs) == 0 or int(runs.sum(axis=1).max()) - 1 <= height * width


def runs_to_mask(runs: Runs, height: int, width: int) -> NDArray[np.bool_]:
    """Return bool [height, width]; overlapping runs count once. Raises BrokenRle for a run beyond the end."""
    if not fits(runs, height, width):
        last = int(runs.sum(axis=1).max()) - 1
        raise BrokenRle(f"a run ends at pixel {last}; {width} x {height} has only {height * width}")
    changes = np.zeros(height * width + 1, np.int64)
    np.add.at(changes, runs[:, 0] - 1, 1)
    np.add.at(changes, runs[:, 0] - 1 + runs[:, 1], -1)
    return np.ascontiguousarray((changes[:-1].cumsum() > 0).reshape(width, height).T)


def decode_rle(text: str, height: int, width: int) -> NDArray[np.bool_]:
    """Return the mask that `text` describes, bool [height, width]. Raises BrokenRle (see `parse_rle`)."""
    return runs_to_mask(parse_rle(text), height, width)


def encode_rle(mask: NDArray[np.bool_]) -> str:
    """Return the text of a mask (bool [H, W]), runs ascending and as long as can be; "" for an empty mask."""
    flat = np.concatenate([[False], mask.T.reshape(-1).astype(bool), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    starts, ends = edges[::2], edges[1::2]
    return " ".join(f"{start + 1} {end - start}" for start, end in zip(starts, ends, strict=True))
