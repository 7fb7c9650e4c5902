import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from shared.config.schema import AugmentationConfig
from shared.data.dataset import DetectionSet
from shared.data.formats import DatasetUnreadable, read_detection_set
from shared.data.torch_dataset import DetectionDataset, collate
from shared.data.transforms import build_augmentation
from shared.vision.decode import decode_image
from shared.vision.letterbox import letterbox


@pytest.fixture(scope="module")
def people(cctv: Path) -> DetectionSet:
    return read_detection_set(cctv, split="val")


def augmented(people: DetectionSet, **options) -> DetectionDataset:
    config = AugmentationConfig(horizontal_flip=0.5, brightness_contrast=0.5, gaussian_noise=0.5, gamma=0.5)
    return DetectionDataset(people, (96, 128), augmentation=build_augmentation(config), seed=9, **options)


def digest(batches) -> str:
    total = hashlib.sha256()
    for batch in batches:
        total.update(batch["images"].numpy().tobytes())
        for boxes in batch["boxes"]:
            total.update(boxes.numpy().tobytes())
    return total.hexdigest()


def test_a_sample_is_the_letterboxed_picture_with_its_boxes(people: DetectionSet) -> None:
    dataset = DetectionDataset(people, (96, 128))
    for index in (0, 5, 11):
        sample, record = dataset[index], people.records[index]
        image, geometry = letterbox(decode_image(record.image_path.read_bytes()), (96, 128))
        assert (sample["image"].numpy() == image).all()
        assert sample["image"].dtype == torch.uint8
        assert sample["letterbox"] == geometry
        expected = geometry.to_letterboxed(record.boxes)
        np.testing.assert_allclose(sample["boxes"], expected[~record.ignore], rtol=1e-6)
        np.testing.assert_allclose(sample["ignored_boxes"], expected[record.ignore], rtol=1e-6)
        assert sample["labels"].dtype == torch.int64
        assert len(sample["labels"]) == len(sample["boxes"])


def test_crowd_is_kept_apart_also_when_augmented(people: DetectionSet) -> None:
    index = next(
        i for i, record in enumerate(people.records) if record.ignore.any() and (~record.ignore).any()
    )
    record = people.records[index]
    dataset = augmented(people)
    for epoch in range(6):
        dataset.set_epoch(epoch)
        sample = dataset[index]
        assert len(sample["ignored_boxes"]) == record.ignore.sum()
        assert len(sample["boxes"]) == (~record.ignore).sum()
        widths = record.boxes[record.ignore, 2] - record.boxes[record.ignore, 0]
        mapped = sample["ignored_boxes"][:, 2] - sample["ignored_boxes"][:, 0]
        np.testing.assert_allclose(mapped, widths * 96 / 208, rtol=0.02)


def test_batches_stack_pictures_and_list_the_rest(people: DetectionSet) -> None:
    batch = collate([DetectionDataset(people, (96, 128))[index] for index in range(3)])
    assert batch["images"].shape == (3, 96, 128, 3)
    assert len(batch["boxes"]) == len(batch["labels"]) == len(batch["letterboxes"]) == 3
    assert batch["indices"] == [0, 1, 2]
    assert batch["image_ids"] == [record.image_id for record in people.records[:3]]


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_worker_processes_change_nothing(cache, people: DetectionSet) -> None:
    alone = augmented(people, cache=cache)
    alone.set_epoch(4)
    expected = digest(DataLoader(alone, batch_size=5, collate_fn=collate))
    shared = augmented(people)
    loader = DataLoader(shared, batch_size=5, collate_fn=collate, num_workers=2, persistent_workers=True)
    shared.set_epoch(3)
    assert digest(loader) != expected
    shared.set_epoch(4)  # the workers are already running
    assert digest(loader) == expected


def test_every_epoch_is_drawn_anew_and_can_be_repeated(people: DetectionSet) -> None:
    dataset = augmented(people, cache="ram")
    seen = []
    for epoch in (0, 1, 2, 0):
        dataset.set_epoch(epoch)
        seen.append(digest(DataLoader(dataset, batch_size=8, collate_fn=collate)))
    assert seen[0] == seen[3]
    assert len(set(seen)) == 3


def test_augmentation_never_writes_into_the_cache(people: DetectionSet) -> None:
    dataset = DetectionDataset(people, (96, 128), cache="ram")
    dataset[0]["image"].zero_()
    assert dataset[0]["image"].any()


def test_the_cache_counts_pictures_and_refuses_what_does_not_fit(people, monkeypatch) -> None:
    seen: list[None] = []
    DetectionDataset(people, (96, 128), cache="ram", on_image=lambda: seen.append(None))
    assert len(seen) == len(people)
    free = psutil.virtual_memory()._replace(available=1000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    with pytest.raises(MemoryError, match=r"data\.cache=none"):
        DetectionDataset(people, (96, 128), cache="ram")


def test_a_picture_that_cannot_be_used_is_named(people: DetectionSet, tmp_path: Path) -> None:
    record = people.records[0]
    wrong_size = replace(people, records=[replace(record, width=100)])
    with pytest.raises(
        DatasetUnreadable, match="208 x 208 pixels after EXIF rotation, its labels are for 100"
    ):
        DetectionDataset(wrong_size, (96, 96))[0]
    missing = replace(people, records=[replace(record, image_path=tmp_path / "gone.jpg")])
    with pytest.raises(DatasetUnreadable, match=r"gone\.jpg"):
        DetectionDataset(missing, (96, 96), cache="ram")
