import shutil
from pathlib import Path

import pytest

from shared.config import DataConfig
from shared.data.formats import read_detection_set
from shared.data.splits import read_splits, split_detection_set


def names(dataset) -> set[str]:
    return {record.image_path.name for record in dataset.records}


def test_every_picture_is_on_one_side_and_the_share_is_right(cctv: Path) -> None:
    whole = read_detection_set(cctv, split="train")
    train, val = split_detection_set(whole, 0.2, seed=1)
    assert (len(train), len(val)) == (96, 24)
    assert names(train).isdisjoint(names(val))
    assert names(train) | names(val) == names(whole)
    assert train.class_names == val.class_names == ["person"]


def test_the_seed_decides_and_order_does_not(cctv: Path) -> None:
    whole = read_detection_set(cctv, split="train")
    _, val = split_detection_set(whole, 0.2, seed=1)
    whole.records.reverse()
    assert names(split_detection_set(whole, 0.2, seed=1)[1]) == names(val)
    assert names(split_detection_set(whole, 0.2, seed=2)[1]) != names(val)


def test_copies_stay_together(write_coco) -> None:
    root = write_coco({number: [] for number in range(1, 13)})
    for copy in (2, 3, 4):
        shutil.copy(root / "train" / "1.png", root / "train" / f"{copy}.png")
    whole = read_detection_set(root, split="train")
    copies = {"1.png", "2.png", "3.png", "4.png"}
    sides = [copies & names(split_detection_set(whole, 0.3, seed=seed)[1]) for seed in range(20)]
    assert all(side in (set(), copies) for side in sides)
    assert copies in sides


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan")])
def test_fractions_that_make_no_sense(fraction: float, cctv: Path) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_detection_set(read_detection_set(cctv, split="val"), fraction)


def test_a_validation_split_is_found_under_its_other_names(write_coco) -> None:
    root = write_coco({1: [], 2: []})
    for name in ("valid", "test"):
        shutil.copytree(root / "train", root / name)
        shutil.copy(root / "annotations" / "train.json", root / "annotations" / f"{name}.json")
    splits = read_splits(DataConfig(path=str(root)), root, ["person"], seed=0)
    assert (len(splits.val), splits.cut_off) == (2, False)
    with pytest.raises(ValueError, match=r"set data\.train to one of test, train, valid"):
        read_splits(DataConfig(path=str(root), train="training"), root, ["person"], seed=0)


def test_one_picture_cannot_be_divided(write_coco) -> None:
    root = write_coco({1: [], 2: []})
    shutil.copy(root / "train" / "1.png", root / "train" / "2.png")
    with pytest.raises(ValueError, match="1 different pictures"):
        split_detection_set(read_detection_set(root, split="train"), 0.5)
