"""Random changes of events, the same for all windows of a sample, with its boxes. Events spec, section 14.

Each function draws from the generator it is given, so the same seed gives the same change.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.vision.events import Events


@dataclass(frozen=True)
class EventAugmentation:
    """What to change; zero switches a change off.

    suppress_p: chance that a whole sample loses one polarity. shift_px: largest shift of all events along
    each axis, in whole pixels. noise_hz: background events per pixel and second. time_scale: times are
    stretched around the first event by a factor between 1 / (1 + time_scale) and 1 + time_scale.
    """

    suppress_p: float = 0.25
    shift_px: int = 2
    noise_hz: float = 0.05
    time_scale: float = 0.1

    def __call__(
        self, events: Events, boxes: NDArray[np.void], size: tuple[int, int], rng: np.random.Generator
    ) -> tuple[Events, NDArray[np.void]]:
        """Return a sample's events and boxes (dtype `BOX`), changed together; size: (height, width).

        Noise is added last: it is the sensor's, not the scene's.
        """
        if self.time_scale:
            factor = float(np.exp(rng.uniform(-1, 1) * np.log1p(self.time_scale)))
            events, boxes = scale_time(events, boxes, factor)
        if self.shift_px:
            offset = rng.integers(-self.shift_px, self.shift_px + 1, 2)
            events, boxes = shift(events, boxes, size, int(offset[0]), int(offset[1]))
        if rng.random() < self.suppress_p:
            events = suppress_polarity(events, int(rng.integers(0, 2)))
        if self.noise_hz and len(events):
            events = add_noise(events, size, self.noise_hz, rng)
        return events, boxes


def suppress_polarity(events: Events, polarity: int) -> Events:
    """Leave out all events of a polarity (0 darker, 1 brighter)."""
    return events[events.p != polarity]


def suppress_polarity_channels(histograms: NDArray[np.uint8], polarity: int) -> NDArray[np.uint8]:
    """The same on stacked histograms [..., 2 * bins, H, W]: a copy without the channels of a polarity.

    Equal to counting what `suppress_polarity` leaves, except that the bins keep the edges of all events.
    """
    bins = histograms.shape[-3] // 2
    kept = histograms.copy()
    kept[..., polarity * bins : (polarity + 1) * bins, :, :] = 0
    return kept


def shift(
    events: Events, boxes: NDArray[np.void], size: tuple[int, int], dx: int, dy: int
) -> tuple[Events, NDArray[np.void]]:
    """Move everything by whole pixels; what leaves the sensor is left out, boxes are cut at its border."""
    height, width = size
    x, y = events.x.astype(np.int64) + dx, events.y.astype(np.int64) + dy
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    moved = Events(
        events.t[inside], x[inside].astype(np.uint16), y[inside].astype(np.uint16), events.p[inside]
    )
    boxes = boxes.copy()
    for corner, side, offset, limit in (("x", "w", dx, width), ("y", "h", dy, height)):
        start = np.clip(boxes[corner] + offset, 0, limit)
        end = np.clip(boxes[corner] + boxes[side] + offset, 0, limit)
        boxes[corner], boxes[side] = start, end - start
    return moved, boxes[(boxes["w"] > 0) & (boxes["h"] > 0)]


def scale_time(events: Events, boxes: NDArray[np.void], factor: float) -> tuple[Events, NDArray[np.void]]:
    """Stretch times around the first event's by a factor, as if everything moved 1 / factor as fast."""
    if not len(events):
        return events, boxes
    origin = int(events.t[0])
    boxes = boxes.copy()
    boxes["t"] = origin + np.rint((boxes["t"] - origin) * factor).astype(np.int64)
    t = origin + np.rint((events.t - origin) * factor).astype(np.int64)
    return Events(t, events.x, events.y, events.p), boxes


def add_noise(events: Events, size: tuple[int, int], rate_hz: float, rng: np.random.Generator) -> Events:
    """Add background events between the first and the last: Poisson, `rate_hz` per pixel and second."""
    if not len(events):
        return events
    height, width = size
    first, last = int(events.t[0]), int(events.t[-1])
    number = int(rng.poisson(rate_hz * height * width * (last - first) / 1e6))
    t = np.concatenate([events.t, rng.integers(first, last + 1, number)])
    order = np.argsort(t, kind="stable")
    x = np.concatenate([events.x, rng.integers(0, width, number).astype(np.uint16)])
    y = np.concatenate([events.y, rng.integers(0, height, number).astype(np.uint16)])
    p = np.concatenate([events.p, rng.integers(0, 2, number).astype(np.uint8)])
    return Events(t[order], x[order], y[order], p[order])
