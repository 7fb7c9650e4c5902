"""Objects that cross a scene, stop on the way and go on; what is seen of them, and their boxes."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data.events.labels import BOX
from shared.data.events.simulator.sensor import Region
from shared.data.events.simulator.sprites import KINDS, Sprite, draw_sprite

MAX_OBJECTS = 5
LANES = 6
REST_S = (0.8, 3.0)
REST_SHARE = 0.7  # of the objects stop once, a third of these twice
CLASS_SHARES = (0.4, 0.3, 0.3)
MIN_VISIBLE = 0.3  # share of a box within the frame, and not behind others
MIN_SIDE = 3.0  # pixels


@dataclass
class Walker:
    """One object: where it is, how fast, and where it will stop. Positions are of the sprite's corner."""

    track: int
    label: int
    sprite: Sprite
    lane: int
    x: float
    y: float
    heading: int  # 1 to the right, -1 to the left
    slope: float  # rows per column
    cruise: float  # pixels per second
    stops: list[tuple[float, float]]  # way from the start in pixels, seconds of rest
    end: float  # way after which it is out of the frame
    way: float = 0.0
    speed: float = 0.0
    rest: float = 0.0

    def advance(self, seconds: float) -> bool:
        """Move on and say whether it moved."""
        if self.rest > 0:
            self.rest -= seconds
            return False
        brake = 4.0 * self.cruise  # pixels per second squared
        to_stop = self.stops[0][0] - self.way if self.stops else np.inf
        slow = self.speed**2 / (2 * brake) >= to_stop
        self.speed = (
            max(self.speed - brake * seconds, 0.0) if slow else min(self.speed + brake * seconds, self.cruise)
        )
        if slow and self.speed == 0.0:
            self.rest = self.stops.pop(0)[1]
            return False
        moved = self.speed * seconds
        self.way += moved
        self.x += self.heading * moved
        self.y += self.slope * moved
        return True

    @property
    def phase(self) -> int:
        """Frame of the stride, one per eighth of two thirds of the height."""
        frames = len(self.sprite.frames)
        stride = self.sprite.frames.shape[1] * 0.66
        return int(self.way / stride * frames) % frames

    def box(self) -> NDArray[np.float64]:
        """Tight (x1, y1, x2, y2) in the frame's pixels, beyond its borders too."""
        x1, y1, x2, y2 = self.sprite.boxes[self.phase].tolist()
        if self.heading < 0:
            x1, x2 = self.sprite.frames.shape[2] - x2, self.sprite.frames.shape[2] - x1
        return np.array([self.x + x1, self.y + y1, self.x + x2, self.y + y2])


class Scene:
    """A street seen by a fixed camera: `advance` moves what is in it, `render` shows a part of it."""

    def __init__(
        self, size: tuple[int, int], rng: np.random.Generator, *, contrast: float, density: float
    ) -> None:
        self.size, self._rng = size, rng
        self._contrast, self._density = contrast, density
        self._scale = size[0] / 120
        self._ground = _background(size, rng)
        self._tracks = 0
        self._until_next = 0.0
        self.walkers: list[Walker] = []

    def log_light(self) -> NDArray[np.float32]:
        """The whole empty scene, float32 [H, W]."""
        return np.log(self._ground)

    def advance(self, seconds: float) -> list[Region]:
        """Move everything and return the parts of the frame that changed."""
        changed = []
        for walker in self.walkers:
            before = self._region(walker)
            if walker.advance(seconds):
                changed += [region for region in (_union(before, self._region(walker)),) if region]
        self.walkers = [walker for walker in self.walkers if walker.way < walker.end]
        self._until_next -= seconds
        if self._until_next <= 0:
            self._until_next = float(self._rng.exponential(1 / self._density))
            self._enter()
        return changed

    def render(self, region: Region) -> NDArray[np.float32]:
        """Log light of a region, float32, nearer objects (lower in the frame) before farther ones."""
        y0, y1, x0, x1 = region
        light = self._ground[y0:y1, x0:x1].copy()
        for walker in self._by_depth():
            other = self._region(walker)
            if other is None or other[0] >= y1 or other[1] <= y0 or other[2] >= x1 or other[3] <= x0:
                continue
            frame = walker.sprite.frames[walker.phase]
            width = frame.shape[1]
            # Column c of a sprite lies at x + c, or at x + width - 1 - c where it looks to the left.
            shift = walker.x - x0 if walker.heading > 0 else walker.x - x0 + width - 1
            move = np.array([[walker.heading, 0, shift], [0, 1, walker.y - y0]], np.float64)
            seen = cv2.warpAffine(frame, move, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR)
            light *= 1 - seen[..., 1]
            light += seen[..., 0]
        return np.log(np.maximum(light, 0.02))

    def boxes(self, t_us: int) -> NDArray[np.void]:
        """Boxes (dtype `BOX`) of what can be seen, clipped to the frame."""
        height, width = self.size
        rows = []
        ordered = self._by_depth()
        limits = np.array([width, height, width, height], np.float64)
        shown = [np.clip(walker.box(), 0, limits) for walker in ordered]
        for number, (walker, box) in enumerate(zip(ordered, shown, strict=True)):
            full = walker.box()
            w, h = box[2:] - box[:2]
            whole = float(np.prod(full[2:] - full[:2]))
            hidden = max((_overlap(box, nearer) for nearer in shown[number + 1 :]), default=0.0)
            if min(w, h) >= MIN_SIDE and w * h - hidden >= MIN_VISIBLE * whole:
                rows.append((t_us, box[0], box[1], w, h, walker.label, walker.track, 1.0))
        return np.array(rows, BOX)

    def _by_depth(self) -> list[Walker]:
        return sorted(self.walkers, key=lambda walker: walker.y + walker.sprite.frames.shape[1])

    def _enter(self) -> None:
        rng = self._rng
        free = sorted(set(range(LANES)) - {walker.lane for walker in self.walkers})
        if not free or len(self.walkers) >= MAX_OBJECTS:
            return
        label = int(rng.choice(len(KINDS), p=CLASS_SHARES))
        sprite = draw_sprite(label, rng, self._scale, self._contrast)
        height, width = self.size
        tall, wide = sprite.frames.shape[1:3]
        lane = int(rng.choice(free))
        bottom = height * (0.3 + 0.68 * (lane + rng.uniform(0.2, 0.8)) / LANES)
        heading = int(rng.choice([-1, 1]))
        way = float(width + wide)
        stops: list[tuple[float, float]] = []
        if rng.random() < REST_SHARE:
            places = np.sort(rng.uniform(0.25, 0.75, 1 + int(rng.random() < 1 / 3))) * way
            stops = [(float(place), float(rng.uniform(*REST_S))) for place in places]
        self._tracks += 1
        x = -wide if heading > 0 else width
        cruise = float(rng.uniform(*KINDS[label].speed)) * self._scale
        self.walkers.append(
            Walker(self._tracks, label, sprite, lane, float(x), float(bottom - tall), heading,
                   float(rng.uniform(-0.05, 0.05)), cruise, stops, way)
        )  # fmt: skip

    def _region(self, walker: Walker) -> Region | None:
        """Whole pixels that an object may touch within the frame, or None."""
        height, width = self.size
        tall, wide = walker.sprite.frames.shape[1:3]
        y0, x0 = int(np.floor(walker.y)) - 1, int(np.floor(walker.x)) - 1
        region = max(y0, 0), min(y0 + tall + 3, height), max(x0, 0), min(x0 + wide + 3, width)
        return region if region[0] < region[1] and region[2] < region[3] else None


def _union(one: Region | None, other: Region | None) -> Region | None:
    if one is None or other is None:
        return one or other
    return min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    return float(np.prod(np.maximum(sides, 0)))


def _background(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """Light of an empty street, 0.25..0.7: soft patches, a horizon and a few posts and stripes."""
    height, width = size
    ground = np.full(size, 0.45, np.float32)
    ground[: int(height * 0.22)] += np.float32(rng.uniform(0.05, 0.2))
    for _ in range(10):
        y, x = int(rng.integers(0, height)), int(rng.integers(0, width))
        tall, wide = int(rng.integers(2, height // 3)), int(rng.integers(2, width // 6))
        ground[y : y + tall, x : x + wide] += np.float32(rng.uniform(-0.1, 0.1))
    ground += cv2.GaussianBlur(rng.standard_normal(size).astype(np.float32), (0, 0), 2) * 0.08
    return np.clip(cv2.GaussianBlur(ground, (0, 0), 0.7), 0.25, 0.75)
