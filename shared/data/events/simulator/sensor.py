"""The pixels of an event camera: each compares the logarithm of its light with what it last reported.

The model is that of ESIM (Rebecq, Gehrig, Scaramuzza, CoRL 2018): crossings are placed in time by linear
interpolation between two rendered pictures; v2e (Hu, Liu, Delbruck, CVPRW 2021) adds thresholds that differ
between pixels, background activity and a refractory period.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Region = tuple[int, int, int, int]  # first row, past the last, first column, past the last


@dataclass(frozen=True)
class SensorSettings:
    """threshold: step of log light per event; threshold_spread: its standard deviation between pixels.

    refractory_us: time after an event in which a pixel gives no other. noise_hz: background events per pixel
    and second. hot_share of the pixels give hot_hz instead.
    """

    threshold: float = 0.2
    threshold_spread: float = 0.006
    refractory_us: int = 1000
    noise_hz: float = 0.1
    hot_share: float = 0.0003
    hot_hz: float = 40.0


@dataclass(frozen=True, slots=True)
class PixelEvents:
    """Events of one step, in no order: t int64 us, y and x int64, p bool (brighter)."""

    t: NDArray[np.int64]
    y: NDArray[np.int64]
    x: NDArray[np.int64]
    p: NDArray[np.bool_]


class EventSensor:
    """A sensor that has been looking at `log_light` (float32 [H, W]) before its first step."""

    def __init__(
        self, settings: SensorSettings, log_light: NDArray[np.float32], rng: np.random.Generator
    ) -> None:
        self.settings, self._rng = settings, rng
        shape = log_light.shape
        self._light = log_light.astype(np.float32).copy()
        self._reported = self._light.copy()
        spread = rng.standard_normal(shape).astype(np.float32) * settings.threshold_spread
        self._threshold = np.maximum(settings.threshold + spread, settings.threshold / 4).astype(np.float32)
        self._last_event = np.full(shape, -(1 << 62), np.int64)
        hot = rng.random(shape) < settings.hot_share
        rates = np.where(hot, settings.hot_hz, settings.noise_hz)
        self._noise_total = float(rates.sum())
        self._noise_pixels = np.cumsum(rates.reshape(-1))

    def step(
        self, start_us: int, end_us: int, region: Region, log_light: NDArray[np.float32]
    ) -> list[PixelEvents]:
        """Return the events in (start_us, end_us] while a region goes linearly to `log_light`.

        The rest of the picture stays as it is.
        """
        y0, y1, x0, x1 = region
        before = self._light[y0:y1, x0:x1]
        reported = self._reported[y0:y1, x0:x1]
        threshold = self._threshold[y0:y1, x0:x1]
        moved = log_light - reported
        rows, columns = np.nonzero(np.abs(moved) >= threshold)
        found: list[PixelEvents] = []
        if len(rows):
            change, step = moved[rows, columns], threshold[rows, columns]
            sign = np.sign(change)
            number = np.floor(np.abs(change) / step).astype(np.int64)
            first, slope = before[rows, columns], (log_light - before)[rows, columns]
            origin = reported[rows, columns]
            for count in range(1, int(number.max()) + 1):
                some = number >= count
                level = origin[some] + sign[some] * count * step[some]
                # A pixel in its dead time may owe an event from before: it comes at once.
                part = np.divide(
                    level - first[some], slope[some], out=np.zeros_like(level), where=slope[some] != 0
                )
                share = np.clip(part, 0, 1).astype(np.float64)
                t = start_us + np.maximum(1, np.rint(share * (end_us - start_us))).astype(np.int64)
                found += self._awake(t, rows[some] + y0, columns[some] + x0, sign[some] > 0)
            reported[rows, columns] = origin + sign * number * step
        before[...] = log_light
        return found

    def noise(self, start_us: int, end_us: int) -> list[PixelEvents]:
        """Return background events in (start_us, end_us], Poisson, of either polarity alike."""
        number = int(self._rng.poisson(self._noise_total * (end_us - start_us) / 1e6))
        if not number:
            return []
        places = np.searchsorted(
            self._noise_pixels, self._rng.random(number) * self._noise_pixels[-1], side="right"
        )
        y, x = np.divmod(places, self._light.shape[1])
        t = self._rng.integers(start_us + 1, end_us + 1, number)
        return [PixelEvents(t, y, x, self._rng.random(number) < 0.5)]

    def _awake(
        self, t: NDArray[np.int64], y: NDArray[np.int64], x: NDArray[np.int64], p: NDArray[np.bool_]
    ) -> list[PixelEvents]:
        awake = t - self._last_event[y, x] >= self.settings.refractory_us
        t, y, x, p = t[awake], y[awake], x[awake], p[awake]
        self._last_event[y, x] = t
        return [PixelEvents(t, y, x, p)] if len(t) else []
