from pathlib import Path

import pytest
import yaml

from shared.data.formats import DatasetUnreadable, find_splits, read_detection_set


@pytest.fixture
def flat(tmp_path: Path, write_picture) -> Path:
    """images/ beside labels/: a (64 x 48, one box) and b (background)."""
    write_picture(tmp_path / "images" / "a.png", seed=1)
    write_picture(tmp_path / "images" / "b.png", seed=2)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    return tmp_path


def row(flat: Path, text: str):
    (flat / "labels" / "a.txt").write_text(text)
    dataset = read_detection_set(flat)
    return dataset.records[0], [defect.code for defect in dataset.defects]


def test_relative_centres_become_corners_in_pixels(flat: Path) -> None:
    dataset = read_detection_set(flat)
    assert dataset.records[0].boxes.tolist() == [[24, 12, 40, 36]]  # 64 x 48: centre 32, 24, size 16 x 24
    assert (dataset.records[0].width, dataset.records[0].height) == (64, 48)
    assert dataset.records[1].boxes.shape == (0, 4)
    assert dataset.defects == []


def test_sizes_are_those_after_exif_rotation(flat: Path, write_picture) -> None:
    write_picture(flat / "images" / "c.jpg", 64, 48, exif=6)
    (flat / "labels" / "c.txt").write_text("0 0.5 0.5 1 1")
    record = read_detection_set(flat).records[2]
    assert (record.width, record.height) == (48, 64)
    assert record.boxes.tolist() == [[0, 0, 48, 64]]


@pytest.mark.parametrize(
    ("text", "code", "kept"),
    [
        ("0 0.5 0.5 0.2", "wrong_field_count", 0),
        ("0 0.5 0.5 0.2 0.2 0.9", "wrong_field_count", 0),
        ("0 0.5 nan 0.2 0.2", "not_finite", 0),
        ("0 0.5 inf 0.2 0.2", "not_finite", 0),
        ("person 0.5 0.5 0.2 0.2", "not_a_number", 0),
        ("0.5 0.5 0.5 0.2 0.2", "unknown_category", 0),
        ("-1 0.5 0.5 0.2 0.2", "unknown_category", 0),
        ("0 320 240 64 48", "out_of_range", 0),
        ("0 0.5 0.5 -0.2 0.2", "out_of_range", 0),
        ("0 0.5 0.5 0 0.2", "empty_box", 0),
        ("0 0.1 0.5 0.6 0.2", "box_clipped", 1),
        ("0 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2", "duplicate_row", 1),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9", "segmentation_row", 1),
    ],
)
def test_every_bad_row_is_named(text: str, code: str, kept: int, flat: Path) -> None:
    record, codes = row(flat, text)
    assert codes == [code]
    assert len(record.boxes) == kept


def test_five_decimals_that_round_beyond_one_are_fine(flat: Path) -> None:
    record, codes = row(flat, "0 0.50001 0.5 1.00001 1.0\n")
    assert codes == []
    assert record.boxes.tolist() == [pytest.approx([0, 0, 64, 48], abs=1e-3)]


def test_a_polygon_gives_its_bounding_box(flat: Path) -> None:
    record, _ = row(flat, "0 0.25 0.5 0.75 0.25 0.5 1.0")
    assert record.boxes.tolist() == [[16, 12, 48, 48]]


def test_labels_without_a_picture_and_blank_lines(flat: Path) -> None:
    (flat / "labels" / "c.txt").write_text("0 0.5 0.5 0.1 0.1")
    record, codes = row(flat, "\n0 0.5 0.5 0.2 0.2\n\n")
    assert codes == ["label_without_image"]
    assert len(record.boxes) == 1


def test_pictures_that_cannot_be_read_are_named(flat: Path) -> None:
    (flat / "images" / "c.png").write_bytes(b"GIF89a" + bytes(30))
    (flat / "images" / "d.png").write_bytes((flat / "images" / "a.png").read_bytes()[:60])
    dataset = read_detection_set(flat)
    assert [(defect.code, defect.where) for defect in dataset.defects] == [
        ("unreadable_image", "images/c.png"),
        ("truncated_image", "images/d.png"),
    ]
    assert len(dataset) == 2


def test_unnamed_classes_are_named_in_order(flat: Path) -> None:
    record, _ = row(flat, "0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.3 0.3")
    assert record.labels.tolist() == [0, 1]
    people = read_detection_set(flat, class_names=["person"])
    assert people.class_names == ["person"]
    assert people.records[0].labels.tolist() == [0]


def test_a_data_yaml_with_names_and_splits(flat: Path, write_picture) -> None:
    write_picture(flat / "val" / "images" / "v.png", seed=3)
    (flat / "val" / "labels").mkdir()
    (flat / "val" / "labels" / "v.txt").write_text("2 0.5 0.5 0.5 0.5\n3 0.5 0.5 0.5 0.5")
    description = {
        "path": "/a/folder/of/somebody/else",
        "train": "images",
        "val": "../val/images",
        "names": {0: "car", 1: "dog", 2: "person"},
    }
    (flat / "data.yaml").write_text(yaml.safe_dump(description))
    assert find_splits(flat) == ["train", "val"]
    for path in (flat, flat / "data.yaml"):
        dataset = read_detection_set(path, split="val", class_names=["person"])
        assert dataset.records[0].labels.tolist() == [0]
        assert [defect.code for defect in dataset.defects] == ["unknown_category"]
    assert len(read_detection_set(flat, split="train")) == 2


def test_a_list_of_pictures(flat: Path) -> None:
    (flat / "train.txt").write_text("images/a.png\nimages/missing.png\n")
    (flat / "data.yaml").write_text("train: train.txt\nnames: [person]\n")
    dataset = read_detection_set(flat, split="train")
    assert [record.image_id for record in dataset.records] == ["images/a.png"]
    assert [defect.code for defect in dataset.defects] == ["missing_image"]


def test_splits_below_images(tmp_path: Path, write_picture) -> None:
    for number, split in enumerate(("train", "val")):
        write_picture(tmp_path / "images" / split / "a.png", seed=number)
        (tmp_path / "labels" / split).mkdir(parents=True)
        (tmp_path / "labels" / split / "a.txt").write_text(f"{number} 0.5 0.5 0.5 0.5")
    (tmp_path / "classes.txt").write_text("person\ndog\n")
    assert find_splits(tmp_path) == ["train", "val"]
    dataset = read_detection_set(tmp_path, split="val")
    assert dataset.class_names == ["person", "dog"]
    assert dataset.records[0].labels.tolist() == [1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected keys"),
        ("names: [a]", "at least one of train, val, test"),
        ("train: images\nnames: {1: a}", "without gaps"),
        ("train: images\nnames: person", "list or a map"),
        ("train: [", "cannot be read as YAML"),
    ],
)
def test_descriptions_that_cannot_be_used(text: str, message: str, flat: Path) -> None:
    (flat / "data.yaml").write_text(text)
    with pytest.raises(DatasetUnreadable, match=message):
        read_detection_set(flat, split="train")
