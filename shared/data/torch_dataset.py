"""What a training loop draws: letterboxed pictures and boxes as tensors, the same in every repetition."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypedDict

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.loading import load_image
from shared.data.transforms import Augmentation, sample_generator
from shared.vision.letterbox import PAD_VALUE, Letterbox, fit_letterbox, letterbox

_CACHE_SHARE = 0.7  # of the free memory; the rest is for the training itself


class Sample(TypedDict):
    """One picture. Boxes are corners in letterboxed pixels; `index` finds the record in the DetectionSet."""

    image: Tensor  # uint8 [H, W, 3] RGB
    boxes: Tensor  # float32 [n, 4]
    labels: Tensor  # int64 [n]
    ignored_boxes: Tensor  # float32 [m, 4], regions that are neither objects nor background
    image_id: int | str
    letterbox: Letterbox
    index: int


class Batch(TypedDict):
    """Several pictures; the lists have one entry per picture."""

    images: Tensor  # uint8 [N, H, W, 3] RGB
    boxes: list[Tensor]
    labels: list[Tensor]
    ignored_boxes: list[Tensor]
    image_ids: list[int | str]
    letterboxes: list[Letterbox]
    indices: list[int]


class DetectionDataset(Dataset[Sample]):
    """Letterboxed and augmented pictures of a DetectionSet.

    What is drawn for a picture depends on (seed, epoch, index) alone. Call `set_epoch` before the epoch's
    iterator is made; worker processes see it too, persistent ones included.
    """

    def __init__(
        self,
        dataset: DetectionSet,
        image_size: tuple[int, int],
        *,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        cache: Literal["none", "ram"] = "none",
        on_image: Callable[[], None] | None = None,
    ) -> None:
        """Take `dataset` for a network with input `image_size` (height, width) in pixels.

        cache "ram" decodes and letterboxes everything here, once, calling `on_image` after each picture, and
        keeps it as uint8; processes forked later share it. Raises MemoryError where that would not fit and
        DatasetUnreadable for a picture that cannot be used.
        """
        self.dataset = dataset
        self.image_size = image_size
        self.augmentation = augmentation
        self.seed = seed
        self._epoch = multiprocessing.RawValue("q", 0)
        self._cache = _fill_cache(dataset.records, image_size, on_image) if cache == "ram" else None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose random numbers are drawn."""
        self._epoch.value = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        record = self.dataset.records[index]
        geometry = fit_letterbox((record.height, record.width), self.image_size)
        image = self._cache[index] if self._cache is not None else _letterboxed(record, self.image_size)
        boxes = geometry.to_letterboxed(record.boxes)
        rows = np.arange(len(boxes), dtype=np.int64)  # carried through the augmentation, which may drop boxes
        if self.augmentation is not None:
            rng = sample_generator(self.seed, self._epoch.value, index)
            image, boxes, rows = self.augmentation(image, boxes, rows, rng)
        labels, ignore = record.labels[rows], record.ignore[rows]
        return Sample(
            image=torch.tensor(image),  # a copy: the cache stays as it is
            boxes=torch.from_numpy(boxes[~ignore]),
            labels=torch.from_numpy(labels[~ignore]),
            ignored_boxes=torch.from_numpy(boxes[ignore]),
            image_id=record.image_id,
            letterbox=geometry,
            index=index,
        )


def collate(samples: list[Sample]) -> Batch:
    """Stack pictures and keep everything else, whose lengths differ, in lists."""
    return Batch(
        images=torch.stack([sample["image"] for sample in samples]),
        boxes=[sample["boxes"] for sample in samples],
        labels=[sample["labels"] for sample in samples],
        ignored_boxes=[sample["ignored_boxes"] for sample in samples],
        image_ids=[sample["image_id"] for sample in samples],
        letterboxes=[sample["letterbox"] for sample in samples],
        indices=[sample["index"] for sample in samples],
    )


def _letterboxed(record: DetectionRecord, size: tuple[int, int]) -> NDArray[np.uint8]:
    return letterbox(load_image(record), size, PAD_VALUE)[0]


def _fill_cache(
    records: list[DetectionRecord], size: tuple[int, int], on_image: Callable[[], None] | None
) -> NDArray[np.uint8]:
    """Return all pictures letterboxed, uint8 [N, H, W, 3]."""
    shape = (len(records), *size, 3)
    needed, free = int(np.prod(shape)), psutil.virtual_memory().available
    if needed > _CACHE_SHARE * free:
        raise MemoryError(
            f"caching {len(records)} pictures of {size[0]} x {size[1]} needs {needed / 2**30:.1f} GiB and "
            f"{free / 2**30:.1f} GiB are free; use data.cache=none"
        )
    cache = np.empty(shape, np.uint8)

    def fill(index: int) -> None:
        cache[index] = _letterboxed(records[index], size)

    with ThreadPoolExecutor(max_workers=psutil.cpu_count() or 1) as pool:  # decoding releases the lock
        for _ in pool.map(fill, range(len(records))):
            if on_image:
                on_image()
    return cache
