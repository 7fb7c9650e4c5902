"""Windows cut from labelled pictures for training: small defects fill more of what the network looks at.

A whole strip holds a defect in a hundredth of its pixels, which a network that starts from nothing hardly
finds by the picture's labels alone. A window's labels follow from where the classes are.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.formats.errors import DatasetUnreadable
from shared.data.regions import class_mask
from shared.vision.letterbox import fit_letterbox

# A window holds a class of which it shows a quarter, or at least this share of its own pixels: one in 500,
# 40 of 128 × 160. Less than both is a fragment that cannot be told from the surface.
SHOWN_OF_CLASS = 0.25
SHOWN_OF_WINDOW = 0.002


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """size: (height, width) of windows in pixels of the network's input. focus: share of windows laid over
    a class, where the picture holds any; the others lie anywhere."""

    size: tuple[int, int]
    focus: float = 0.6


def refuse_unplaced(dataset: ClassificationSet, policy: WindowPolicy, image_size: tuple[int, int]) -> None:
    """Raise DatasetUnreadable where windows do not fit `image_size` or a picture's classes have no place."""
    (height, width), (full_height, full_width) = policy.size, image_size
    if height > full_height or width > full_width:
        raise DatasetUnreadable(
            f"data.window={height}x{width} does not fit into the network's input of "
            f"{full_height}x{full_width} (height x width); make it smaller"
        )
    unplaced = [record for record in dataset.records if record.labels.any() and not record.regions_complete]
    if unplaced:
        raise DatasetUnreadable(
            f"data.window needs to know where classes are, and {len(unplaced)} of {len(dataset)} pictures "
            f"name classes without a mask or outline, {unplaced[0].image_path} first; train on whole "
            "pictures (data.window=null)"
        )


def cut_window(
    image: NDArray[np.uint8], record: ClassificationRecord, policy: WindowPolicy, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a window of a letterboxed picture, and which classes it holds.

    image: uint8 [H, W, 3], `record`'s picture letterboxed. Returns a view [h, w, 3] and bool [C]. The same
    state of `rng` gives the same window.
    """
    masks = _letterboxed_masks(record, (image.shape[0], image.shape[1]))
    held = sorted(masks)
    if held and rng.random() < policy.focus:
        rows, columns = np.nonzero(masks[held[int(rng.integers(len(held)))]])
        at = int(rng.integers(len(rows)))
        place = (int(rows[at]), int(columns[at]))
    else:
        place = None
    top, left = (
        _start(length, full, None if place is None else place[axis], rng)
        for axis, (length, full) in enumerate(zip(policy.size, image.shape[:2], strict=True))
    )
    height, width = policy.size
    labels = np.zeros(len(record.labels), bool)
    for label, mask in masks.items():
        shown = int(mask[top : top + height, left : left + width].sum())
        needed = min(SHOWN_OF_CLASS * int(mask.sum()), SHOWN_OF_WINDOW * height * width)
        labels[label] = shown > 0 and shown >= needed
    return image[top : top + height, left : left + width], labels


def _start(length: int, full: int, place: int | None, rng: np.random.Generator) -> int:
    """Return where a window of `length` begins in `full` pixels; with a `place`, so that it lies inside."""
    if place is None:
        return int(rng.integers(full - length + 1))
    return int(np.clip(place - rng.integers(length), 0, full - length))


def _letterboxed_masks(record: ClassificationRecord, size: tuple[int, int]) -> dict[int, NDArray[np.bool_]]:
    """Return each class's mask, bool `size`, as the letterboxed picture shows it; empty ones left out.

    A mask is taken at the nearest source pixel: no class appears where its source has none.
    """
    geometry = fit_letterbox((record.height, record.width), size)
    height, width = geometry.resized_size
    rows = ((np.arange(height) + 0.5) * record.height / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * record.width / width).astype(np.int64)
    masks = {}
    for label in sorted({region.label for region in record.regions}):
        mask = np.zeros(size, bool)
        source = class_mask(record.regions, label, record.height, record.width)
        mask[geometry.pad_y : geometry.pad_y + height, geometry.pad_x : geometry.pad_x + width] = source[
            np.ix_(rows, columns)
        ]
        if mask.any():
            masks[label] = mask
    return masks
