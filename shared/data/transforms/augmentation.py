"""Random changes of pictures and boxes, on albumentations 2.0.8 (its last release under the MIT licence)."""

import os
import random
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.config.schema import AugmentationConfig
from shared.data.transforms.registry import AUGMENTATIONS
from shared.vision.boxes import Boxes

Augmentation = Callable[
    [NDArray[np.uint8], Boxes, NDArray[np.int64], np.random.Generator],
    tuple[NDArray[np.uint8], Boxes, NDArray[np.int64]],
]


def sample_generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random numbers of one picture in one epoch.

    They depend on these three numbers alone, not on what was drawn before, so a resumed run and a run with
    any number of worker processes repeat them exactly.
    """
    return np.random.default_rng([seed, epoch, index])


def build_augmentation(config: AugmentationConfig) -> Augmentation:
    """Return a function (image, boxes, labels, rng) -> (image, boxes, labels).

    image: uint8 [H, W, 3] RGB; boxes: float32 [N, 4] corners in its pixels; labels: int64 [N]. Boxes follow
    every geometric change; one that leaves the picture goes together with its label. Steps run in the order
    of AUGMENTATIONS: geometry, light, optics, sensor. The same `rng` state gives the same result. Not for
    use from several threads at once: the library keeps the state in its transforms.
    """
    # Read at import, at which the library otherwise asks the network for a newer release.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    steps = _steps(albumentations, config)
    if not steps:
        return _unchanged
    boxes_follow = albumentations.BboxParams(format="pascal_voc", label_fields=["labels"], clip=True)
    # A first step that never acts: without any geometric one the library warns that boxes are unused.
    pipeline = albumentations.Compose(
        [albumentations.HorizontalFlip(p=0.0), *steps], bbox_params=boxes_follow
    )

    def augment(
        image: NDArray[np.uint8], boxes: Boxes, labels: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], Boxes, NDArray[np.int64]]:
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))  # noqa: S311 - no secret
        changed = pipeline(image=image, bboxes=boxes, labels=labels)
        return (
            np.ascontiguousarray(changed["image"]),
            np.asarray(changed["bboxes"], dtype=np.float32).reshape(-1, 4),
            np.asarray(changed["labels"], dtype=np.int64),
        )

    return augment


def _steps(library: Any, config: AugmentationConfig) -> list[Any]:
    asked_for = [name for name in AUGMENTATIONS if getattr(config, name) > 0]
    return [AUGMENTATIONS.load(name)(library, config) for name in asked_for]


def _unchanged(
    image: NDArray[np.uint8], boxes: Boxes, labels: NDArray[np.int64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Boxes, NDArray[np.int64]]:
    return image, boxes, labels
