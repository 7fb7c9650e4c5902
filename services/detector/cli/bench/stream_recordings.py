"""Recordings for streams, each of its own, and how they are cut into chunks; the same for the same seed."""

from dataclasses import dataclass

import numpy as np

from shared.vision.events import Events

NOISE_SHARE = 0.3  # of the events; the others are on the edges of what moves
SHAPES = 3
RECORD = np.dtype([("x", "<u2"), ("y", "<u2"), ("t", "<i8"), ("p", "u1")])


def moving_shapes(
    seed: int, size: tuple[int, int], duration_us: int, count: int, window_us: int = 50_000
) -> Events:
    """Return `count` events of rectangles that cross a sensor (height, width), among noise.

    From time 0 on, in order; several have the same time, and some lie exactly on the edges of windows.
    """
    random = np.random.default_rng(seed)
    height, width = size
    edges = np.arange(0, duration_us, window_us)
    t = np.concatenate([random.integers(0, duration_us, max(count - len(edges), 0)), edges])
    t.sort()
    x, y = random.integers(0, width, len(t)), random.integers(0, height, len(t))
    shape = random.integers(0, SHAPES, len(t))
    moves = random.random(len(t)) >= NOISE_SHARE
    for number in range(SHAPES):
        mine = np.flatnonzero(moves & (shape == number))
        sides = random.uniform(0.1, 0.3, 2) * (width, height)
        start, end = random.uniform(0, 1, (2, 2)) * (width, height)
        middle = start + (t[mine, None] / duration_us) * (end - start)
        along = random.uniform(-0.5, 0.5, (len(mine), 2)) * sides
        upright = random.random(len(mine)) < 0.5  # which pair of edges an event lies on
        along[upright, 0] = np.sign(along[upright, 0]) * sides[0] / 2
        along[~upright, 1] = np.sign(along[~upright, 1]) * sides[1] / 2
        place = np.clip(middle + along, 0, (width - 1, height - 1)).astype(np.int64)
        x[mine], y[mine] = place[:, 0], place[:, 1]
    p = random.integers(0, 2, len(t))
    return Events(t.astype(np.int64), x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk as it is sent; the last one of a recording says that nothing comes after `until_us`."""

    body: bytes
    until_us: int | None = None


def pieces(events: Events, duration_us: int, count: int, seed: int) -> list[Piece]:
    """Return a recording in `count` chunks, cut anywhere: also inside windows, and some chunks are empty."""
    random = np.random.default_rng(seed)
    records = np.empty(len(events), RECORD)
    for name in ("t", "x", "y", "p"):
        records[name] = getattr(events, name)
    cuts = np.sort(random.integers(0, len(events) + 1, count - 1))
    parts = [part.tobytes() for part in np.split(records, cuts)]
    return [*(Piece(part) for part in parts[:-1]), Piece(parts[-1], duration_us)]
