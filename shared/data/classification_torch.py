"""What the training of a classifier draws: letterboxed pictures and labels as tensors, repeatably."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypedDict

import cv2
import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.loading import load_image
from shared.data.transforms import Augmentation, sample_generator
from shared.data.windows import WindowPolicy, cut_window, refuse_unplaced
from shared.vision.letterbox import PAD_VALUE, letterbox

_CACHE_SHARE = 0.7  # of the free memory; the rest is for the training itself
_LOOK_EVERY = 32  # pictures between two looks at the free memory
_NO_BOXES = np.zeros((0, 4), np.float32)
_NO_ROWS = np.zeros(0, np.int64)


class ClassificationSample(TypedDict):
    """One picture; `index` finds its record in the ClassificationSet."""

    image: Tensor  # uint8 [H, W, 3] RGB
    labels: Tensor  # float32 [C], 1 where the picture holds the class, else 0
    index: int


class ClassificationBatch(TypedDict):
    """Several pictures."""

    images: Tensor  # uint8 [N, H, W, 3] RGB
    labels: Tensor  # float32 [N, C]
    indices: list[int]


class ClassificationDataset(Dataset[ClassificationSample]):
    """Letterboxed and augmented pictures of a ClassificationSet.

    What is drawn for a picture depends on (seed, epoch, index) alone. Call `set_epoch` before the epoch's
    iterator is made; worker processes see it too, persistent ones included.
    """

    def __init__(
        self,
        dataset: ClassificationSet,
        image_size: tuple[int, int],
        *,
        augmentation: Augmentation | None = None,
        windows: WindowPolicy | None = None,
        seed: int = 0,
        cache: Literal["none", "ram"] = "none",
        on_image: Callable[[], None] | None = None,
    ) -> None:
        """Take `dataset` for a network with input `image_size` (height, width) in pixels.

        windows: cut one from each letterboxed picture, another in every epoch, and label it by what it shows.
        cache "ram" decodes and letterboxes everything here, once, calling `on_image` after each picture, and
        keeps it as uint8, grey pictures in one channel; processes forked later share it. Raises MemoryError
        where that would not fit and DatasetUnreadable for a picture that cannot be used.
        """
        self.dataset = dataset
        self.image_size = image_size
        self.augmentation = augmentation
        self.windows = windows
        if windows is not None:
            refuse_unplaced(dataset, windows, image_size)
        self.seed = seed
        self._epoch = multiprocessing.RawValue("q", 0)
        self._cache = _fill_cache(dataset.records, image_size, on_image) if cache == "ram" else None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose random numbers are drawn."""
        self._epoch.value = epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> ClassificationSample:
        record = self.dataset.records[index]
        if self._cache is None:
            image = _letterboxed(record, self.image_size)
        else:
            image = _three_channels(self._cache[index])
        labels = record.labels
        rng = sample_generator(self.seed, self._epoch.value, index)
        if self.windows is not None:
            image, labels = cut_window(image, record, self.windows, rng)
        if self.augmentation is not None:
            image, _, _ = self.augmentation(image, _NO_BOXES, _NO_ROWS, rng)
        return ClassificationSample(
            image=torch.tensor(image),  # a copy: the cache stays as it is
            labels=torch.from_numpy(labels.astype(np.float32)),
            index=index,
        )


def collate_classification(samples: list[ClassificationSample]) -> ClassificationBatch:
    """Stack pictures and labels."""
    return ClassificationBatch(
        images=torch.stack([sample["image"] for sample in samples]),
        labels=torch.stack([sample["labels"] for sample in samples]),
        indices=[sample["index"] for sample in samples],
    )


def _letterboxed(record: ClassificationRecord, size: tuple[int, int]) -> NDArray[np.uint8]:
    return letterbox(load_image(record), size, PAD_VALUE)[0]


def _one_channel_if_grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return uint8 [H, W] where all three channels are equal, else the picture as it is."""
    red, green, blue = cv2.split(image)
    grey = not cv2.absdiff(red, green).any() and not cv2.absdiff(red, blue).any()
    return np.asarray(red, np.uint8) if grey else image


def _three_channels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image if image.ndim == 3 else np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)


def _fill_cache(
    records: list[ClassificationRecord], size: tuple[int, int], on_image: Callable[[], None] | None
) -> list[NDArray[np.uint8]]:
    """Return all pictures letterboxed, uint8 [H, W] or [H, W, 3]; repeats of a record share one."""
    unique = list({id(record): record for record in records}.values())
    cache: dict[int, NDArray[np.uint8]] = {}

    def load(record: ClassificationRecord) -> NDArray[np.uint8]:
        return _one_channel_if_grey(_letterboxed(record, size))

    with ThreadPoolExecutor(max_workers=psutil.cpu_count() or 1) as pool:  # decoding releases the lock
        for start in range(0, len(unique), _LOOK_EVERY):
            part = unique[start : start + _LOOK_EVERY]
            for record, image in zip(part, pool.map(load, part), strict=True):
                cache[id(record)] = image
                if on_image:
                    on_image()
            _refuse_if_too_large(list(cache.values()), len(unique), size)
    return [cache[id(record)] for record in records]


def _refuse_if_too_large(cache: list[NDArray[np.uint8]], count: int, size: tuple[int, int]) -> None:
    """Raise MemoryError where the pictures still to come, taken to be like the last, would not fit."""
    left, free = (count - len(cache)) * cache[-1].nbytes, psutil.virtual_memory().available
    if left > _CACHE_SHARE * free:
        raise MemoryError(
            f"caching {count} pictures of {size[0]} x {size[1]} needs {left / 2**30:.1f} GiB more and "
            f"{free / 2**30:.1f} GiB are free; use data.cache=none"
        )
