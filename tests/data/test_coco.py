import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from shared.data.formats import DatasetUnreadable, find_splits, read_detection_set


def codes(dataset) -> list[str]:
    return [defect.code for defect in dataset.defects]


def test_boxes_become_corners_and_categories_are_numbered_by_id(write_coco) -> None:
    root = write_coco({1: [[10, 5, 20, 30]], 2: []})
    dataset = read_detection_set(root, split="train")
    assert dataset.class_names == ["dog", "person"]  # ids 3 and 7
    assert dataset.records[0].boxes.tolist() == [[10, 5, 30, 35]]
    assert dataset.records[0].labels.tolist() == [1]
    assert dataset.records[0].image_path == root / "train" / "1.png"
    assert dataset.records[1].boxes.shape == (0, 4)
    assert dataset.defects == []


def test_agrees_with_pycocotools_on_a_generated_set(cctv: Path) -> None:
    reference = COCO(cctv / "annotations" / "val.json")
    dataset = read_detection_set(cctv, split="val")
    assert [record.image_id for record in dataset.records] == reference.getImgIds()
    for record in dataset.records:
        rows = reference.loadAnns(reference.getAnnIds(record.image_id))
        expected = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
        np.testing.assert_allclose(record.boxes, np.reshape(expected, (-1, 4)), atol=1e-4)
        assert record.ignore.tolist() == [bool(row["iscrowd"]) for row in rows]


def test_a_folder_with_several_splits_wants_a_name(write_coco) -> None:
    write_coco({1: []}, "train")
    root = write_coco({2: []}, "val")
    assert find_splits(root) == ["train", "val"]
    with pytest.raises(DatasetUnreadable, match="train, val; say which"):
        read_detection_set(root)
    with pytest.raises(DatasetUnreadable, match="no split 'test'; it has train, val"):
        read_detection_set(root, split="test")


def test_the_layout_of_the_coco_download(write_coco, tmp_path: Path) -> None:
    root = write_coco({1: [[0, 0, 5, 5]]})
    (root / "annotations" / "train.json").rename(root / "annotations" / "instances_train2017.json")
    (root / "annotations" / "captions_train2017.json").write_text("{}")
    (root / "train").rename(root / "train2017")
    for path, split in ((root, "train"), (root / "annotations" / "instances_train2017.json", None)):
        dataset = read_detection_set(path, split=split)
        assert dataset.records[0].image_path == root / "train2017" / "1.png"


@pytest.mark.parametrize("place", ["images", "images/train", "annotations", "."])
def test_pictures_are_found_in_the_usual_places(place: str, write_coco) -> None:
    root = write_coco({1: []})
    (root / place).mkdir(parents=True, exist_ok=True)
    shutil.move(root / "train" / "1.png", root / place / "1.png")
    (root / "train").rmdir()
    assert read_detection_set(root / "annotations" / "train.json").records[0].image_path.is_file()


def test_pictures_in_a_folder_that_is_named(write_coco, tmp_path: Path) -> None:
    root = write_coco({1: []})
    (root / "train").rename(tmp_path / "elsewhere")
    dataset = read_detection_set(root, split="train", images_dir=tmp_path / "elsewhere")
    assert dataset.records[0].image_path.is_file()


def test_one_folder_per_split_with_its_json_inside(write_coco) -> None:
    root = write_coco({1: []})
    (root / "annotations" / "train.json").rename(root / "train" / "_annotations.coco.json")
    (root / "annotations").rmdir()
    (root / "valid").mkdir()
    shutil.copy(root / "train" / "_annotations.coco.json", root / "valid")
    assert find_splits(root) == ["train", "valid"]
    assert read_detection_set(root, split="train").records[0].image_path.is_file()
    assert read_detection_set(root, split="val").source.endswith("valid/_annotations.coco.json")


def test_only_some_classes(write_coco) -> None:
    root = write_coco({1: [[0, 0, 5, 5]], 2: []})
    people = read_detection_set(root, split="train", class_names=["person"])
    assert people.class_names == ["person"]
    assert people.records[0].labels.tolist() == [0]
    dogs = read_detection_set(root, split="train", class_names=["dog"])
    assert [len(record.boxes) for record in dogs.records] == [0, 0]
    with pytest.raises(DatasetUnreadable, match="no class 'cat'; it has dog, person"):
        read_detection_set(root, split="train", class_names=["cat"])


@pytest.mark.parametrize(
    ("box", "code", "kept"),
    [
        ([10, 10, 0, 5], "empty_box", 0),
        ([10, 10, 5, -1], "empty_box", 0),
        ([70, 10, 5, 5], "box_outside", 0),
        ([-9, 10, 5, 5], "box_outside", 0),
        ([60, 10, 20, 5], "box_clipped", 1),
        ([10, 10, 1, 20], "tiny_box", 1),
        ([10, 10, float("nan"), 20], "not_finite", 0),
        ([10, 10, 20], "bad_box", 0),
        (["10", 10, 20, 20], "bad_box", 0),
        (None, "bad_box", 0),
    ],
)
def test_every_defect_of_a_box_is_named(box, code, kept, write_coco) -> None:
    dataset = read_detection_set(write_coco({1: [box]}), split="train")
    assert codes(dataset) == [code]
    assert len(dataset.records[0].boxes) == kept
    assert "1.png, annotation 100" in dataset.defects[0].where


def test_boxes_are_clipped_to_the_picture(write_coco) -> None:
    dataset = read_detection_set(write_coco({1: [[60, 40, 20, 20], [0.0, 0.0, 64.4, 48.4]]}), split="train")
    assert dataset.records[0].boxes.tolist() == [[60, 40, 64, 48], [0, 0, 64, 48]]
    assert codes(dataset) == ["box_clipped"]  # less than a pixel too large is rounding


def test_a_row_that_stands_twice_is_kept_once(write_coco) -> None:
    dataset = read_detection_set(write_coco({1: [[1, 1, 9, 9], [1, 1, 9, 9]]}), split="train")
    assert codes(dataset) == ["duplicate_row"]
    assert len(dataset.records[0].boxes) == 1


def test_rows_that_lead_nowhere(write_coco) -> None:
    rows = [
        {"id": 1, "image_id": 99, "category_id": 7, "bbox": [0, 0, 5, 5]},
        {"id": 2, "image_id": 1, "category_id": 8, "bbox": [0, 0, 5, 5]},
        {"id": 3, "image_id": 1, "category_id": 7, "bbox": [0, 0, 5, 5], "iscrowd": 1},
    ]
    dataset = read_detection_set(write_coco({1: []}, annotations=rows), split="train")
    assert codes(dataset) == ["label_without_image", "unknown_category"]
    assert dataset.records[0].ignore.tolist() == [True]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../b.png", "a\\..\\..\\b.png"])
def test_file_names_that_lead_out_of_the_folder_are_refused(name: str, write_coco) -> None:
    images = [{"id": 1, "file_name": name, "width": 64, "height": 48}]
    dataset = read_detection_set(write_coco({}, images=images), split="train")
    assert dataset.records == []
    assert codes(dataset) == ["bad_image_entry"]


@pytest.mark.parametrize(
    "image",
    [
        {"file_name": "1.png", "width": 64, "height": 48},
        {"id": 1, "width": 64, "height": 48},
        {"id": 1, "file_name": "1.png", "width": 0, "height": 48},
        {"id": 1, "file_name": "1.png", "width": 64},
    ],
)
def test_image_entries_that_lack_something(image, write_coco) -> None:
    dataset = read_detection_set(write_coco({}, images=[image]), split="train")
    assert codes(dataset) == ["bad_image_entry"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected an object"),
        ("{}", "no list 'images'"),
        (json.dumps({"images": [1], "annotations": [], "categories": []}), "not an object"),
        (json.dumps({"images": [], "annotations": [], "categories": [{"id": "x"}]}), "integer 'id'"),
        (
            json.dumps({"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}] * 2}),
            "share an id",
        ),
    ],
)
def test_files_that_are_no_coco(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(DatasetUnreadable, match=message):
        read_detection_set(tmp_path / "labels.json")


def test_paths_and_formats_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnreadable, match="does not exist"):
        read_detection_set(tmp_path / "nothing")
    with pytest.raises(DatasetUnreadable, match="cannot tell the format"):
        read_detection_set(tmp_path)
    with pytest.raises(DatasetUnreadable, match="known are coco, yolo"):
        read_detection_set(tmp_path, format="voc")


def test_the_content_hash_follows_content_only(write_coco, tmp_path: Path) -> None:
    root = write_coco({1: [[1, 1, 9, 9]], 2: []})
    original = read_detection_set(root, split="train").content_hash()
    moved = tmp_path / "moved"
    for part in ("annotations", "train"):
        shutil.copytree(root / part, moved / part)
    assert read_detection_set(moved, split="train").content_hash() == original
    reordered = read_detection_set(moved, split="train")
    reordered.records.reverse()
    assert reordered.content_hash() == original
    reordered.records[1].boxes[0, 0] += 1
    assert reordered.content_hash() != original
    write_coco({1: [[1, 1, 9, 9]]})
    assert read_detection_set(root, split="train").content_hash() != original
