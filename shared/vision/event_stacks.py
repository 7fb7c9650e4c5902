"""Ways to show a window of events to a network, by name: events and a sensor size in, channels out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.core.registry import Entry, Registry
from shared.vision.events import Events
from shared.vision.histogram import (
    POLARITIES,
    bin_edges,
    check_events,
    keep_odd_pixels,
    pixel_indices,
    prepared,
    reduced,
    stacked_histogram,
)

REPRESENTATIONS = Registry(
    "event representation",
    {
        "stacked_histogram": Entry(
            "shared.vision.event_stacks:StackedHistogram",
            "counts per polarity and time bin, uint8; the reference",
        ),
        "mixed_density": Entry(
            "shared.vision.event_stacks:MixedDensity",
            "sums of signs over ever longer times, int8",
        ),
        "ternary_volume": Entry(
            "shared.vision.event_stacks:TernaryVolume",
            "sign of the last event per time bin, int8 (VTEI)",
        ),
    },
)


@dataclass(frozen=True)
class StackedHistogram:
    """`stacked_histogram` with its settings: uint8 [2 * bins, H, W]."""

    bins: int = 10
    cutoff: int = 10
    dtype = np.dtype(np.uint8)

    @property
    def channels(self) -> int:
        return POLARITIES * self.bins

    def folder(self, window_ms: int) -> str:
        """The name that RVT gives to the folder of such frames."""
        return f"stacked_histogram_dt={window_ms}_nbins={self.bins}"

    def __call__(
        self, events: Events, size: tuple[int, int], *, half: bool = False, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """As `stacked_histogram`."""
        return stacked_histogram(events, size, bins=self.bins, cutoff=self.cutoff, half=half, out=out)


@dataclass(frozen=True)
class MixedDensity:
    """Sums of signs (+1 brighter, -1 darker) over times that double, int8 [bins, H, W].

    Channel i holds the events with t_norm < 2^(i + 1 - bins), where t_norm is the place between the first
    event (0) and the last one (1); the last channel holds all of them. Sums are cut off at ±cutoff (1..127).
    Events spec, section 7: time is spaced logarithmically, bins are cumulative.
    """

    bins: int = 10
    cutoff: int = 32
    dtype = np.dtype(np.int8)

    @property
    def channels(self) -> int:
        return self.bins

    def folder(self, window_ms: int) -> str:
        """The name that RVT gives to the folder of such frames."""
        return f"mixeddensity_stack_dt={window_ms}_nbins={self.bins}"

    def __call__(
        self, events: Events, size: tuple[int, int], *, half: bool = False, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Raises ValueError for an event beyond the sensor or an `out` that does not fit."""
        check_events(events, size)
        edges = self._edges(events.t)
        if half:
            events, edges = keep_odd_pixels(events, edges)
        height, width = reduced(size, half)
        out = prepared(out, (self.bins, height, width), self.dtype)
        pixels = pixel_indices(events, width).astype(np.intp)
        signs = _signs(events).astype(np.int32)
        sums = np.zeros(height * width, np.int32)
        for channel, (start, end) in enumerate(edges):
            np.add.at(sums, pixels[start:end], signs[start:end])
            np.clip(
                sums.reshape(height, width), -self.cutoff, self.cutoff, out=out[channel], casting="unsafe"
            )
        return out

    def _edges(self, t: NDArray[np.int64]) -> list[tuple[int, int]]:
        if not len(t):
            return [(0, 0)] * self.bins
        span = max(int(t[-1]) - int(t[0]), 1)
        # t_norm >= 2^-k begins at ceil(span / 2^k)
        starts = [int(t[0]) - (-span // 2**k) for k in range(self.bins - 1, 0, -1)]
        inner = np.searchsorted(t, starts).tolist()
        return list(zip([0, *inner], [*inner, len(t)], strict=True))


@dataclass(frozen=True)
class TernaryVolume:
    """The sign of the last event at each pixel per time bin: -1, 0 for none, +1; int8 [bins, H, W].

    Bins are those of the stacked histogram. Events spec, section 14 (volume of ternary event images).
    """

    bins: int = 10
    dtype = np.dtype(np.int8)

    @property
    def channels(self) -> int:
        return self.bins

    def folder(self, window_ms: int) -> str:
        return f"ternary_volume_dt={window_ms}_nbins={self.bins}"

    def __call__(
        self, events: Events, size: tuple[int, int], *, half: bool = False, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Raises ValueError for an event beyond the sensor or an `out` that does not fit."""
        check_events(events, size)
        edges = bin_edges(events.t, self.bins)
        if half:
            events, edges = keep_odd_pixels(events, edges)
        height, width = reduced(size, half)
        out = prepared(out, (self.bins, height, width), self.dtype)
        cells = pixel_indices(events, width).astype(np.intp)
        for number, (start, end) in enumerate(edges):
            cells[start:end] += number * height * width
        out.reshape(-1)[cells] = _signs(events)  # where a cell comes twice, numpy keeps the last
        return out


Representation = StackedHistogram | MixedDensity | TernaryVolume


def _signs(events: Events) -> NDArray[np.int8]:
    return np.where(events.p > 0, np.int8(1), np.int8(-1))
