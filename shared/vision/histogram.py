"""Events of one time window counted per polarity, time bin and pixel: what an event network sees.

Counting goes straight into bytes, which stay in the processor's cache, and the sum of the bytes tells whether
one of them ran over; only then are the events counted again in wide integers. Events spec, section 7.
"""

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.vision.events import Events

Scalar = TypeVar("Scalar", bound=np.generic)

POLARITIES = 2
MAX_SIDE = 8192  # 20 channels of such a sensor still have indices of 32 bits


def stacked_histogram(
    events: Events,
    size: tuple[int, int],
    *,
    bins: int = 10,
    cutoff: int = 10,
    half: bool = False,
    out: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Return uint8 [2 * bins, H, W]: how many events there were, at most `cutoff` (1..255).

    size: (height, width) of the sensor. Channel = polarity * bins + bin, darker first. The bin of an event is
    floor(bins * (t - t_first) / max(t_last - t_first, 1)), at most bins - 1, where t_first and t_last are
    those of the first and the last event given, not the edges of a window. No events: zeros.
    half: keep only the pixels (2i+1, 2j+1), which is a nearest reduction to (H // 2, W // 2).
    out: where to count, uint8 [2 * bins, H, W] and contiguous; its old contents are lost.
    Raises ValueError for an event beyond the sensor, a polarity above 1, or an `out` that does not fit.
    """
    if not 1 <= cutoff <= 255 or not 1 <= bins <= 32:
        raise ValueError(f"cutoff must be from 1 to 255 and bins from 1 to 32, got {cutoff} and {bins}")
    check_events(events, size)
    if len(events) and events.p.max() > 1:
        raise ValueError(f"polarities must be 0 or 1, got {events.p.max()}")
    edges = bin_edges(events.t, bins)
    if half:
        events, edges = keep_odd_pixels(events, edges)
    height, width = reduced(size, half)
    out = prepared(out, (POLARITIES * bins, height, width), np.dtype(np.uint8))
    cells = pixel_indices(events, width)
    cells += events.p * np.uint32(bins * height * width)
    for number, (start, end) in enumerate(edges):
        cells[start:end] += np.uint32(number * height * width)
    indices = cells.astype(np.intp)
    flat = out.reshape(-1)
    np.add.at(flat, indices, np.uint8(1))
    rows = out.reshape(-1, width)
    if len(indices) > 255 and cv2.norm(rows, cv2.NORM_L1) != len(indices):  # a byte ran over 255
        wide = np.bincount(indices, minlength=flat.size)
        np.minimum(wide, cutoff, out=flat, casting="unsafe")
        return out
    cv2.threshold(rows, cutoff, 255, cv2.THRESH_TRUNC, dst=rows)
    return out


def reduced(size: tuple[int, int], half: bool) -> tuple[int, int]:
    """(height, width) of what is built for a sensor of this size."""
    return (size[0] // 2, size[1] // 2) if half else size


def bin_edges(t: NDArray[np.int64], bins: int) -> list[tuple[int, int]]:
    """Return (first, past the last) event of every bin of equal length.

    In whole numbers: bins * (t - t_first) >= bin * span has the same truth as t >= t_first + ceil(bin *
    span / bins). The reference divides in float32, which gives the same bins for spans up to 50 ms.
    """
    if not len(t):
        return [(0, 0)] * bins
    first, span = int(t[0]), max(int(t[-1]) - int(t[0]), 1)
    starts = [first - (-number * span // bins) for number in range(1, bins)]
    inner = np.searchsorted(t, starts).tolist()
    return list(zip([0, *inner], [*inner, len(t)], strict=True))


def keep_odd_pixels(events: Events, edges: list[tuple[int, int]]) -> tuple[Events, list[tuple[int, int]]]:
    """Keep the events at odd rows and columns, at half their coordinates, with the edges of the same bins."""
    kept = np.flatnonzero(events.x & events.y & 1)
    x, y = events.x[kept] >> np.uint16(1), events.y[kept] >> np.uint16(1)
    moved = np.searchsorted(kept, np.array(edges)).tolist()
    return Events(events.t[kept], x, y, events.p[kept]), [(start, end) for start, end in moved]


def pixel_indices(events: Events, width: int) -> NDArray[np.uint32]:
    """Return y * width + x, uint32 [N]."""
    indices = np.multiply(events.y, np.uint32(width), dtype=np.uint32)
    indices += events.x
    return indices


def check_events(events: Events, size: tuple[int, int]) -> None:
    """Raise ValueError for an unusable size or an event beyond it."""
    height, width = size
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ValueError(f"the sensor must have from 1 to {MAX_SIDE} pixels a side, got {height} x {width}")
    if len(events) and (events.x.max() >= width or events.y.max() >= height):
        raise ValueError(
            f"an event lies at column {events.x.max()} or row {events.y.max()}, beyond a sensor of "
            f"{width} x {height} (width x height)"
        )


def prepared(
    out: NDArray[Scalar] | None, shape: tuple[int, int, int], dtype: np.dtype[Scalar]
) -> NDArray[Scalar]:
    """Return zeros of this shape: `out`, emptied, where given. Raises ValueError where it does not fit."""
    if out is None:
        return np.zeros(shape, dtype)
    if out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
        raise ValueError(f"out must be contiguous {dtype} {list(shape)}, got {out.dtype} {list(out.shape)}")
    out.fill(0)
    return out
