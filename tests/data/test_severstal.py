from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.data.formats import DatasetUnreadable
from shared.data.formats.classification import find_classification_splits, read_classification_set

APART = "ImageId,ClassId,EncodedPixels"
JOINED = "ImageId_ClassId,EncodedPixels"
WriteSet = Callable[..., Path]


def strip(path: Path, size: tuple[int, int] = (8, 20), seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, size, np.uint8))


@pytest.fixture
def write_set(tmp_path: Path) -> WriteSet:
    """Write train.csv and pictures a.png, b.png, c.png of 20 x 8 pixels."""

    def write(*rows: str, header: str = APART, names: str = "abc", folder: str = "train_images") -> Path:
        for seed, name in enumerate(names):
            strip(tmp_path / folder / f"{name}.png", seed=seed)
        (tmp_path / "train.csv").write_text("\n".join([header, *rows]) + "\n")
        return tmp_path

    return write


def held(path: Path, **options: object) -> dict[str, list[int]]:
    dataset = read_classification_set(path, **options)
    return {record.image_id: np.flatnonzero(record.labels).tolist() for record in dataset.records}


def codes(path: Path) -> Counter[str]:
    return Counter(f"{d.severity} {d.code}" for d in read_classification_set(path).defects)


def test_rows_only_for_defects(write_set: WriteSet) -> None:
    root = write_set("a.png,1,1 3", "a.png,3,9 4 30 2", "c.png,4,160 1")
    dataset = read_classification_set(root)
    assert dataset.class_names == ["1", "2", "3", "4"]
    assert held(root) == {"a.png": [0, 2], "b.png": [], "c.png": [3]}
    assert dataset.class_counts().tolist() == [1, 0, 1, 1]
    assert dataset.defects == []
    first = dataset.records[0]
    assert (first.width, first.height) == (20, 8)
    masks = {region.label: region.mask(8, 20) for region in first.regions}
    assert np.argwhere(masks[0]).tolist() == [[0, 0], [1, 0], [2, 0]]
    # 9 is the top of the second column; 30 = 3 * 8 + 6 is the sixth row of the fourth.
    assert np.argwhere(masks[2]).tolist() == [[0, 1], [1, 1], [2, 1], [3, 1], [5, 3], [6, 3]]


def test_four_rows_for_each_picture(write_set: WriteSet) -> None:
    rows = [f"{name}.png_{number}," for name in "ab" for number in (1, 2, 3, 4)]
    rows[1] += "1 3"
    rows[6] += "5 2"
    root = write_set(*rows, header=JOINED, names="ab")
    assert held(root) == {"a.png": [1], "b.png": [2]}
    assert not codes(root)


def test_both_layouts_of_the_same_labels_have_the_same_hash(write_set: WriteSet) -> None:
    apart = read_classification_set(write_set("a.png,2,1 3")).content_hash()
    rows = [
        f"{name}.png_{n}," + ("1 3" if (name, n) == ("a", 2) else "") for name in "abc" for n in range(1, 5)
    ]
    assert read_classification_set(write_set(*rows, header=JOINED)).content_hash() == apart
    assert read_classification_set(write_set("a.png,3,1 3")).content_hash() != apart


def test_in_the_joined_layout_a_picture_without_rows_is_unlabelled(write_set: WriteSet) -> None:
    rows = [f"a.png_{number}," for number in (1, 2, 3, 4)]
    root = write_set(*rows, header=JOINED, names="ab")
    assert held(root) == {"a.png": []}
    assert codes(root) == {"warning image_not_listed": 1}


def test_windows_files_and_columns_in_another_order(write_set: WriteSet) -> None:
    root = write_set()
    text = "EncodedPixels,Extra,ImageId,ClassId\r\n1 3,x,a.png,2\r\n\r\n"
    (root / "train.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert held(root) == {"a.png": [1], "b.png": [], "c.png": []}
    assert not codes(root)


@pytest.mark.parametrize("folder", ["train_images", "images", "."])
def test_usual_places_of_the_pictures(write_set: WriteSet, folder: str) -> None:
    root = write_set("b.png,1,1 3", folder=folder)
    assert held(root)["b.png"] == [0]
    assert held(root / "train.csv")["b.png"] == [0]


def test_pictures_elsewhere(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set("b.png,1,1 3", folder="elsewhere")
    with pytest.raises(DatasetUnreadable, match="train_images or images beside it; say where they are with"):
        read_classification_set(root)
    assert held(root, images_dir=tmp_path / "elsewhere")["b.png"] == [0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("ImageId,EncodedPixels\na.png,1 3\n", "has the columns 'ImageId', 'EncodedPixels'; expected"),
        ("a.png,1,1 3\n", "has the columns 'a.png', '1', '1 3'; expected"),
    ],
)
def test_a_csv_without_its_columns(write_set: WriteSet, text: str, message: str) -> None:
    root = write_set()
    (root / "train.csv").write_text(text)
    with pytest.raises(DatasetUnreadable, match=message):
        read_classification_set(root, format="severstal")


def test_bytes_that_are_no_text(write_set: WriteSet) -> None:
    root = write_set()
    (root / "train.csv").write_bytes(APART.encode() + b"\n\xff\xfe\x00,1,1 3\n")
    with pytest.raises(DatasetUnreadable, match="cannot be read as CSV in UTF-8"):
        read_classification_set(root, format="severstal")


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        ("1 2 3", "broken_rle"),
        ("1 x", "broken_rle"),
        ("0 3", "broken_rle"),
        ("150 20", "rle_beyond_image"),
    ],
)
def test_a_picture_whose_mask_cannot_be_read_is_left_out_rather_than_clean(
    write_set: WriteSet, pixels: str, code: str
) -> None:
    root = write_set(f"a.png,1,{pixels}", "b.png,2,1 3")
    assert held(root) == {"b.png": [1], "c.png": []}
    assert codes(root) == {f"error {code}": 1}


def test_runs_out_of_order_are_used_and_counted(write_set: WriteSet) -> None:
    root = write_set("a.png,1,30 2 1 3", "b.png,1,1 4 2 4")
    assert held(root) == {"a.png": [0], "b.png": [0], "c.png": []}
    assert codes(root) == {"warning rle_out_of_order": 2}


def test_unknown_classes_are_counted_and_known_rows_stay(write_set: WriteSet) -> None:
    root = write_set("a.png,5,1 3", "a.png,1,1 3", "b.png,scratch,1 3", "b.png,,1 3")
    assert held(root) == {"a.png": [0], "b.png": [], "c.png": []}
    assert codes(root) == {"error unknown_class": 3}


def test_names_of_ones_own_need_a_list(write_set: WriteSet) -> None:
    root = write_set("a.png,scratch,1 3", "b.png,pit,1 3")
    with pytest.raises(
        DatasetUnreadable, match=r"'scratch' and the like, known are 1, 2, 3, 4; .*classes.txt"
    ):
        read_classification_set(root)
    (root / "classes.txt").write_text("pit\nscratch\ndent\n")
    dataset = read_classification_set(root)
    assert dataset.class_names == ["pit", "scratch", "dent"]
    assert held(root) == {"a.png": [1], "b.png": [0], "c.png": []}
    (root / "classes.txt").write_text("pit\npit\n")
    with pytest.raises(DatasetUnreadable, match="must list each class once"):
        read_classification_set(root)


def test_rows_that_cannot_be_used(write_set: WriteSet) -> None:
    root = write_set(
        "a.png,1,1 3",
        "a.png,1,1 3",  # twice
        "a.png,1,50 2",  # another mask of the same class
        "gone.png,2,1 3",
        "c.png,1",  # nobody knows where, so it is left out rather than clean
        "../secret.png,1,1 3",
        ",1,1 3",
        "b.png,2,",  # belongs, and holds nothing
    )
    assert held(root) == {"a.png": [0], "b.png": []}
    assert codes(root) == {
        "warning duplicate_row": 1,
        "warning second_mask": 1,
        "error label_without_image": 1,
        "error wrong_field_count": 1,
        "error bad_image_name": 2,
    }
    lines = {d.code: d.where for d in read_classification_set(root).defects}
    assert lines["wrong_field_count"] == "train.csv:6"


def test_pictures_of_other_sizes_are_counted_and_broken_ones_left_out(write_set: WriteSet) -> None:
    root = write_set("a.png,1,1 3")
    strip(root / "train_images" / "d.png", size=(16, 40))
    (root / "train_images" / "e.png").write_bytes(b"<html>")
    whole = (root / "train_images" / "c.png").read_bytes()
    (root / "train_images" / "c.png").write_bytes(whole[:20])
    assert held(root) == {"a.png": [0], "b.png": [], "d.png": []}
    assert codes(root) == {
        "warning other_size": 1,
        "error unreadable_image": 1,
        "error truncated_image": 1,
    }


def test_a_mask_beyond_csvs_own_limit_of_a_field(tmp_path: Path) -> None:
    strip(tmp_path / "images" / "big.png", size=(1000, 400))
    rows = " ".join(f"{start} 1" for start in range(1, 400_000, 4))
    assert len(rows) > 131_072
    (tmp_path / "train.csv").write_text(f"{APART}\nbig.png,1,{rows}\n")
    dataset = read_classification_set(tmp_path)
    assert dataset.records[0].regions[0].mask(1000, 400).sum() == 100_000


def test_one_csv_for_each_split(write_set: WriteSet, tmp_path: Path) -> None:
    root = write_set("a.png,1,1 3")
    strip(tmp_path / "val_images" / "v.png", seed=9)
    (tmp_path / "val.csv").write_text(f"{APART}\nv.png,4,1 3\n")
    assert find_classification_splits(root) == ["train", "val"]
    assert held(root, split="validation") == {"v.png": [3]}
    assert held(root, split="train") == {"a.png": [0], "b.png": [], "c.png": []}
    with pytest.raises(DatasetUnreadable, match="holds the splits train, val; say which"):
        read_classification_set(root)
    with pytest.raises(DatasetUnreadable, match="no split 'test'; it has train, val"):
        read_classification_set(root, split="test")


def test_csvs_that_share_a_folder_take_only_what_they_list(write_set: WriteSet) -> None:
    root = write_set("a.png,1,1 3", folder="images")
    (root / "val.csv").write_text(f"{APART}\nb.png,,\n")
    assert held(root, split="train") == {"a.png": [0]}
    assert held(root, split="val") == {"b.png": []}
    notes = [d.detail for d in read_classification_set(root, split="train").defects]
    assert len(notes) == 1
    assert "2 pictures" in notes[0]


def test_selecting_classes_keeps_the_pictures(write_set: WriteSet) -> None:
    root = write_set("a.png,1,1 3", "b.png,3,1 3")
    dataset = read_classification_set(root, class_names=["3", "2"])
    assert [record.labels.tolist() for record in dataset.records] == [
        [False, False],
        [True, False],
        [False, False],
    ]
    assert dataset.records[1].regions[0].label == 0
    assert dataset.records[0].regions == []
    with pytest.raises(DatasetUnreadable, match="no class '5'; it has 1, 2, 3, 4"):
        read_classification_set(root, class_names=["5"])


def test_what_is_no_classification_set(tmp_path: Path, write_coco: Callable[..., Path]) -> None:
    with pytest.raises(DatasetUnreadable, match="cannot tell the format"):
        read_classification_set(write_coco({1: [[0, 0, 9, 9]]}))
    with pytest.raises(DatasetUnreadable, match="does not exist"):
        read_classification_set(tmp_path / "nothing")
    with pytest.raises(DatasetUnreadable, match="'coco' is no format of class labels"):
        read_classification_set(tmp_path, format="coco")
    (tmp_path / "other.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DatasetUnreadable, match="cannot tell the format"):
        read_classification_set(tmp_path / "other.csv")
