"""Random changes of clips, the same for all windows of a piece, with their boxes. Events spec, 9 and 14."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config.schema import AugmentationConfig
from shared.data.events.augmentation import suppress_polarity_channels
from shared.data.events.clips.frame_sequence import LabelledBoxes, StreamSettings
from shared.data.events.clips.plan import Clip

_COUNTS = "stacked_histogram"
_ZOOMS = ("zoom_in", "zoom_out", "zoom_out_streamed")
_OF_COUNTS = ("suppress_polarity", "event_noise")
_MAX_NOISE_HZ = 100.0


def build_clip_augmentation(
    config: AugmentationConfig, settings: StreamSettings
) -> "ClipAugmentation | None":
    """Return the changes that `config` asks for, or None where it asks for none.

    Raises ValueError for changes that the representation does not allow. Those of pictures, which frames of
    events are not, are no part of a stream's config: `shared.config.task_keys`.
    """
    of_counts = [name for name in _OF_COUNTS if getattr(config, name)]
    if of_counts and settings.representation != _COUNTS:
        raise ValueError(
            f"augmentation.{of_counts[0]} needs counts per polarity, not a {settings.representation}; "
            f"set it to 0, or use the representation {_COUNTS}"
        )
    if config.event_noise and config.event_noise_hz > _MAX_NOISE_HZ:
        raise ValueError(
            f"augmentation.event_noise_hz must be at most {_MAX_NOISE_HZ:g}, got {config.event_noise_hz:g}"
        )
    if not any(getattr(config, name) for name in ("horizontal_flip", *_ZOOMS, *_OF_COUNTS)):
        return None
    return ClipAugmentation(config, settings)


class ClipAugmentation:
    """What `build_clip_augmentation` returns: a function of a clip's frames and boxes.

    A stream's pieces are made smaller, never larger: objects would leave them for good.
    """

    def __init__(self, config: AugmentationConfig, settings: StreamSettings) -> None:
        self._config, self._settings = config, settings

    def __call__(
        self, frames: NDArray[Any], boxes: LabelledBoxes, clip: Clip
    ) -> tuple[NDArray[Any], LabelledBoxes]:
        """Return frames [L, C, H, W] and boxes, whose `window` counts within the clip, changed together.

        Everything depends on `clip.seed`, the places of noise also on where the clip starts. A window all of
        whose boxes left the frame has no label any more.
        """
        config, rng = self._config, np.random.default_rng(clip.seed)
        if rng.random() < config.horizontal_flip:
            frames, boxes = flip(frames, boxes)
        zoom_in_p = 0.0 if clip.streamed else config.zoom_in
        zoom_out_p = config.zoom_out_streamed if clip.streamed else config.zoom_out
        zoom, amount = rng.random(2).tolist()
        if zoom < zoom_in_p:
            factor = 1 + amount * (config.zoom_in_factor - 1)
            frames, boxes = random_zoom_in(frames, boxes, factor, rng)
        elif zoom < zoom_in_p + zoom_out_p:
            factor = 1 + amount * (config.zoom_out_factor - 1)
            frames, boxes = random_zoom_out(frames, boxes, factor, rng)
        if rng.random() < config.suppress_polarity:
            frames = suppress_polarity_channels(frames, int(rng.integers(0, 2)))
        if rng.random() < config.event_noise:
            noise = np.random.default_rng((clip.seed, clip.start))
            frames = add_noise(frames, config.event_noise_hz, self._settings, noise)
        return frames, boxes


def flip(frames: NDArray[Any], boxes: LabelledBoxes) -> tuple[NDArray[Any], LabelledBoxes]:
    """Mirror left and right: x becomes W - 1 - x - w."""
    width = frames.shape[-1]
    x, y, w, h = boxes.boxes.T
    return np.ascontiguousarray(frames[..., ::-1]), boxes.moved(
        np.stack([width - 1 - x - w, y, w, h], axis=1)
    )


def zoom_in(
    frames: NDArray[Any], boxes: LabelledBoxes, top: int, left: int, size: tuple[int, int]
) -> tuple[NDArray[Any], LabelledBoxes]:
    """Enlarge the part of `size` (height, width) at (top, left) to the whole frame.

    Boxes are cut to it; those outside are left out.
    """
    height, width = frames.shape[-2:]
    rows, columns = top + nearest(size[0], height), left + nearest(size[1], width)
    moved = _scaled(boxes.boxes - [left, top, 0, 0], width / size[1], height / size[0])
    return frames[..., rows[:, None], columns], boxes.moved(_cut(moved, height, width))


def zoom_out(
    frames: NDArray[Any], boxes: LabelledBoxes, top: int, left: int, size: tuple[int, int]
) -> tuple[NDArray[Any], LabelledBoxes]:
    """Reduce the whole frame to `size` (height, width) and lay it at (top, left) on zeros."""
    height, width = frames.shape[-2:]
    rows, columns = nearest(height, size[0]), nearest(width, size[1])
    canvas = np.zeros_like(frames)
    canvas[..., top : top + size[0], left : left + size[1]] = frames[..., rows[:, None], columns]
    moved = np.add(_scaled(boxes.boxes, size[1] / width, size[0] / height), [left, top, 0, 0])
    return canvas, boxes.moved(_cut(moved, height, width))


def add_noise(
    frames: NDArray[Any], rate_hz: float, settings: StreamSettings, rng: np.random.Generator
) -> NDArray[Any]:
    """Count background events in: Poisson, `rate_hz` per pixel and second, in all channels alike.

    Equal to noise among the events, except that the bins keep the edges of the events that were there.
    """
    windows, _, height, width = frames.shape
    number = int(rng.poisson(rate_hz * windows * height * width * settings.window_ms / 1000))
    noisy = frames.copy()
    flat = noisy.reshape(-1)
    places, counts = np.unique(rng.integers(0, flat.size, number), return_counts=True)
    flat[places] = np.minimum(flat[places] + counts, settings.cutoff or np.iinfo(flat.dtype).max)
    return noisy


def nearest(source: int, target: int) -> NDArray[np.int64]:
    """For each of `target` pixels the one of `source` pixels that its centre lies in ("nearest-exact")."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)


def random_zoom_in(
    frames: NDArray[Any], boxes: LabelledBoxes, factor: float, rng: np.random.Generator
) -> tuple[NDArray[Any], LabelledBoxes]:
    """Enlarge a part that holds a box, drawn from the latest labelled window, as far as it fits."""
    height, width = frames.shape[-2:]
    size = (int(height / factor), int(width / factor))
    latest = np.flatnonzero(boxes.window == boxes.window[-1]) if len(boxes) else ()
    x, y, w, h = boxes.boxes[rng.choice(latest)].tolist() if len(latest) else (0, 0, width, height)
    top = _place(y, y + h, size[0], height, rng)
    left = _place(x, x + w, size[1], width, rng)
    return zoom_in(frames, boxes, top, left, size)


def _place(start: float, end: float, part: int, whole: int, rng: np.random.Generator) -> int:
    """Where a part of a side begins that holds start..end, or that lies within it where it is longer."""
    first, last = np.clip(sorted((int(np.ceil(end)) + 1 - part, int(start))), 0, whole - part).tolist()
    return int(rng.integers(first, last + 1))


def random_zoom_out(
    frames: NDArray[Any], boxes: LabelledBoxes, factor: float, rng: np.random.Generator
) -> tuple[NDArray[Any], LabelledBoxes]:
    """Reduce the frame by a factor and lay it anywhere on zeros."""
    height, width = frames.shape[-2:]
    size = (int(height / factor), int(width / factor))
    top, left = (
        int(rng.integers(0, side - part + 1)) for side, part in zip((height, width), size, strict=True)
    )
    return zoom_out(frames, boxes, top, left, size)


def _scaled(boxes: NDArray[np.floating[Any]], x_factor: float, y_factor: float) -> NDArray[np.floating[Any]]:
    return boxes * [x_factor, y_factor, x_factor, y_factor]


def _cut(boxes: NDArray[np.floating[Any]], height: int, width: int) -> NDArray[np.floating[Any]]:
    """Cut x, y, w, h to 0..W-1, 0..H-1."""
    limit = [width - 1, height - 1]
    start = np.clip(boxes[:, :2], 0, limit)
    end = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limit)
    return np.concatenate([start, end - start], axis=1)
