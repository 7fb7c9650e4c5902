import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shared.data.classification_check import check_classification, classification_format
from shared.data.formats.classification import read_classification_set
from shared.data.preview import write_label_preview
from tests.data.strips import scene, write

HEADER = "ImageId,ClassId,EncodedPixels"


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    for index in range(8):
        write(tmp_path / "train_images" / f"{index}.jpg", scene(index))
    (tmp_path / "train.csv").write_text(
        f"{HEADER}\n0.jpg,1,1 3\n0.jpg,3,9 3\n1.jpg,3,1 3\n2.jpg,4,1 3\n3.jpg,2,1 3\n"
    )
    return tmp_path


def found(report) -> set[tuple[str, str, str, str]]:
    return {(str(defect.severity), defect.code, defect.split, defect.where) for defect in report.defects}


def test_counts(strips: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check_classification(
        strips, "severstal", progress=lambda done, total: steps.append((done, total))
    )
    assert report.ok
    assert report.defects == []
    assert steps[-1] == (8, 8)
    (split,) = report.splits
    assert (split.name, split.images, split.images_without_labels) == ("", 8, 4)
    assert {entry.name: (entry.images, entry.share) for entry in split.classes} == {
        "1": (1, 1 / 8), "2": (1, 1 / 8), "3": (2, 2 / 8), "4": (1, 1 / 8)
    }  # fmt: skip
    assert split.combinations == {"": 4, "1+3": 1, "3": 1, "4": 1, "2": 1}
    assert split.image_sizes == {"160 x 64": 8}


def test_colour_among_grey_copies_and_contradictions(strips: Path) -> None:
    colour = np.stack([scene(50), scene(51), scene(52)], axis=2)
    cv2.imwrite(str(strips / "train_images" / "colour.png"), colour)
    (strips / "train_images" / "copy.jpg").write_bytes((strips / "train_images" / "7.jpg").read_bytes())
    (strips / "train_images" / "wrong.jpg").write_bytes((strips / "train_images" / "1.jpg").read_bytes())
    (strips / "train_images" / "cut.jpg").write_bytes((strips / "train_images" / "1.jpg").read_bytes()[:-900])
    report = check_classification(strips, "severstal")
    assert found(report) == {
        ("warning", "colour_image", "", "colour.png"),
        ("warning", "duplicate_image", "", "copy.jpg"),
        ("warning", "duplicate_image", "", "wrong.jpg"),
        ("error", "contradictory_labels", "", "wrong.jpg"),
        ("error", "truncated_image", "", "cut.jpg"),
    }


def test_a_set_in_colour_has_no_colour_defects(tmp_path: Path) -> None:
    for index in range(3):
        image = np.stack([scene(index), scene(index + 10), scene(index + 20)], axis=2)
        (tmp_path / "images").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / f"{index}.png"), image)
    rows = "\n".join(f"0.png,{number},1 3" for number in (1, 2, 3, 4))
    (tmp_path / "train.csv").write_text(f"{HEADER}\n{rows}\n")
    assert check_classification(tmp_path, "severstal").defects == []


def test_nothing_labelled_and_classes_that_do_not_occur(strips: Path) -> None:
    (strips / "train.csv").write_text(f"{HEADER}\n")
    report = check_classification(strips, "severstal")
    assert not report.ok
    assert report.defect_counts == {"all_negative": 1}
    (strips / "train.csv").write_text(f"{HEADER}\n0.jpg,1,1 3\n")
    report = check_classification(strips, "severstal")
    assert report.ok
    assert {defect.where for defect in report.defects if defect.code == "class_absent"} == {"2", "3", "4"}


def test_splits_that_share_pictures_groups_or_look_alikes(tmp_path: Path) -> None:
    def add(split: str, name: str, image: np.ndarray, group: str, quality: int = 92) -> None:
        write(tmp_path / split / "images" / f"{name}.jpg", image, quality)
        (tmp_path / split / "annotations").mkdir(exist_ok=True)
        document = {"labels": ["pit"], "group": group}
        (tmp_path / split / "annotations" / f"{name}.json").write_text(json.dumps(document))

    for index in range(4):
        add("train", f"t{index}", scene(index), f"coil-{index}")
    add("test", "equal", scene(0), "coil-10")
    add("test", "alike", scene(1), "coil-11", quality=60)
    add("test", "same_coil", scene(30), "coil-2")
    add("test", "own", scene(31), "coil-12")
    report = check_classification(tmp_path, "labels_json")
    assert found(report) == {
        ("error", "duplicate_across_splits", "train", "t0.jpg"),
        ("error", "near_duplicate", "train", "t1.jpg"),
        ("error", "group_across_splits", "train", "t2.jpg"),
    }


def test_a_split_file_that_no_longer_fits(strips: Path) -> None:
    (strips / "splits.json").write_text("{}")
    report = check_classification(strips, "severstal")
    assert ("error", "stale_split_file", "", "splits.json") in found(report)
    assert [split.images for split in report.splits] == [8]


def test_what_cannot_be_read_is_a_defect(strips: Path) -> None:
    (strips / "train.csv").write_text("")
    report = check_classification(strips, "severstal")
    assert found(report) == {("error", "unreadable_dataset", "", str(strips))}
    assert report.splits == []


def test_labels_or_boxes(strips: Path, write_coco) -> None:
    assert classification_format(strips, "auto") == "severstal"
    assert classification_format(strips, "labelme") == "labelme"
    assert classification_format(strips, "coco") is None
    boxes = write_coco({1: [[0, 0, 9, 9]]})
    (boxes / "train.csv").unlink()
    assert classification_format(boxes, "auto") is None


def test_previews_show_classes_and_outlines(strips: Path) -> None:
    (strips / "train.csv").write_text(
        f"{HEADER}\n0.jpg,3," + " ".join(f"{64 * (c + 20) + 11} 40" for c in range(60)) + "\n"
    )
    dataset = read_classification_set(strips)
    names = write_label_preview(dataset, strips / "grid.png", count=20)
    assert names == [f"{number}.jpg" for number in range(8)]
    grid = np.asarray(Image.open(strips / "grid.png").convert("RGB")).astype(int)
    assert grid.shape == (3 * (320 + 16), 3 * 320, 3)
    coloured = np.abs(grid[..., 0] - grid[..., 2]) > 25
    # The mask's 60 x 40 pixels at twice the size, and the name above.
    assert coloured[:336, :320].sum() == pytest.approx(120 * 80, rel=0.05)
    assert coloured.sum() == coloured[:336, :320].sum()
    some = write_label_preview(dataset, strips / "some.png", count=3, seed=1)
    assert len(set(some)) == 3
    assert some == sorted(some)
    assert write_label_preview(dataset, strips / "none.jpg", only="none", count=20) == [
        f"{n}.jpg" for n in range(1, 8)
    ]
    assert write_label_preview(dataset, strips / "three.jpg", only="3") == ["0.jpg"]
    with pytest.raises(ValueError, match="has no class '7'; it has 1, 2, 3, 4, and none"):
        write_label_preview(dataset, strips / "x.jpg", only="7")
    with pytest.raises(ValueError, match="with 2 holds no pictures"):
        write_label_preview(dataset, strips / "x.jpg", only="2")
