from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shared.config.schema import AugmentationConfig
from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.classification_torch import ClassificationDataset, collate_classification
from shared.data.formats import DatasetUnreadable
from shared.data.transforms import build_augmentation
from shared.vision.letterbox import PAD_VALUE

SIZE = (32, 96)


@pytest.fixture
def dataset(tmp_path: Path) -> ClassificationSet:
    """Six strips of 64 x 16, the last one in colour."""
    records = []
    for index in range(6):
        shape = (16, 64, 3) if index == 5 else (16, 64)
        image = np.random.default_rng(index).integers(0, 256, shape, np.uint8)
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), image)
        labels = np.array([index % 2 == 0, index == 3])
        records.append(ClassificationRecord(path, 64, 16, labels, path.name))
    return ClassificationSet(records, ["pit", "scratch"], "made here")


def augmentation():
    return build_augmentation(
        AugmentationConfig(horizontal_flip=0.5, vertical_flip=0.5, shift=0.5, gaussian_noise=0.5)
    )


def test_pictures_are_letterboxed_and_grey_becomes_three_equal_channels(dataset: ClassificationSet) -> None:
    sample = ClassificationDataset(dataset, SIZE)[2]
    assert (sample["image"].dtype, tuple(sample["image"].shape)) == (torch.uint8, (32, 96, 3))
    assert (sample["image"][..., 0] == sample["image"][..., 2]).all()
    # 64 x 16 to a width of 96 has 24 rows; 4 rows of grey above and below.
    assert (sample["image"][:4] == PAD_VALUE).all()
    assert not (sample["image"][4] == PAD_VALUE).all()
    assert sample["labels"].tolist() == [1.0, 0.0]
    assert sample["labels"].dtype == torch.float32
    assert sample["index"] == 2


def test_the_cache_gives_the_same_pictures_in_a_third_of_the_memory(dataset: ClassificationSet) -> None:
    plain, told = ClassificationDataset(dataset, SIZE, augmentation=augmentation(), seed=3), []
    cached = ClassificationDataset(
        dataset, SIZE, augmentation=augmentation(), seed=3, cache="ram", on_image=lambda: told.append(1)
    )
    assert len(told) == 6
    for epoch in (0, 1):
        plain.set_epoch(epoch)
        cached.set_epoch(epoch)
        for index in range(6):
            assert (plain[index]["image"] == cached[index]["image"]).all()
    assert cached._cache is not None
    assert [image.nbytes for image in cached._cache] == [32 * 96] * 5 + [32 * 96 * 3]


def test_changing_a_sample_leaves_the_cache_alone(dataset: ClassificationSet) -> None:
    cached = ClassificationDataset(dataset, SIZE, cache="ram")
    for index in (0, 5):
        before = cached[index]["image"].clone()
        cached[index]["image"].zero_()
        assert (cached[index]["image"] == before).all()


def test_epoch_and_index_decide_what_is_drawn_whatever_the_workers(dataset: ClassificationSet) -> None:
    drawn = ClassificationDataset(dataset, SIZE, augmentation=augmentation(), seed=1)
    epochs = {}
    for workers in (0, 2):
        loader = DataLoader(
            drawn, batch_size=4, num_workers=workers, collate_fn=collate_classification,
            persistent_workers=workers > 0,
        )  # fmt: skip
        for epoch in (0, 1):
            drawn.set_epoch(epoch)
            epochs[workers, epoch] = torch.cat([batch["images"] for batch in loader])
    assert (epochs[0, 0] == epochs[2, 0]).all()
    assert (epochs[0, 1] == epochs[2, 1]).all()
    assert (epochs[0, 0] != epochs[0, 1]).any()


def test_batches(dataset: ClassificationSet) -> None:
    whole = ClassificationDataset(dataset, SIZE)
    batch = collate_classification([whole[3], whole[0]])
    assert tuple(batch["images"].shape) == (2, 32, 96, 3)
    assert batch["labels"].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert batch["indices"] == [3, 0]


def test_a_cache_that_does_not_fit(dataset: ClassificationSet, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Memory", (), {"available": 1000})()
    monkeypatch.setattr("shared.data.classification_torch.psutil.virtual_memory", lambda: free)
    monkeypatch.setattr("shared.data.classification_torch._LOOK_EVERY", 2)
    with pytest.raises(MemoryError, match=r"caching 6 pictures of 32 x 96 .*use data\.cache=none"):
        ClassificationDataset(dataset, SIZE, cache="ram")


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_broken_picture_is_named(dataset: ClassificationSet, cache: str) -> None:
    dataset.records[4].image_path.write_bytes(b"")
    with pytest.raises(DatasetUnreadable, match=r"4\.png cannot be used"):
        ClassificationDataset(dataset, SIZE, cache=cache)[4]
