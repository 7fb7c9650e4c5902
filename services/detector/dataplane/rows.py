"""Tensors of several pieces of work put together along their first dimension, and taken apart again."""

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TypeVar

import numpy as np

from services.detector.dataplane.session import Tensors

T = TypeVar("T")


def rows_of(tensors: Tensors) -> int:
    """Return the length of the first dimension, which all tensors of a run share."""
    return len(next(iter(tensors.values())))


def joined(parts: list[Tensors]) -> Tensors:
    """Return tensors that hold the rows of all `parts`, which have the same names, in their order."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def chunks(tensors: Tensors, size: int) -> Iterator[Tensors]:
    """Yield `tensors` in parts of `size` rows, the last one with what is left."""
    rows = rows_of(tensors)
    if rows <= size:
        yield tensors
        return
    for start in range(0, rows, size):
        yield {name: tensor[start : start + size] for name, tensor in tensors.items()}


def row_ranges(parts: list[Tensors]) -> list[slice]:
    """Return where the rows of each part lie once they are joined."""
    return [slice(*ends) for ends in pairwise(accumulate(map(rows_of, parts), initial=0))]


def same_shapes(works: list[tuple[T, Tensors]]) -> list[list[tuple[T, Tensors]]]:
    """Return `works` in groups that can be joined: equal names and equal sizes but for the rows."""
    if len(works) < 2:
        return [works] if works else []
    groups: dict[tuple[tuple[str, tuple[int, ...]], ...], list[tuple[T, Tensors]]] = {}
    for work, tensors in works:
        shapes = tuple(sorted((name, tensor.shape[1:]) for name, tensor in tensors.items()))
        groups.setdefault(shapes, []).append((work, tensors))
    return list(groups.values())
