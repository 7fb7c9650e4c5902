from pathlib import Path

import pytest

from shared.data.events.layout import find_recordings, sequence_name
from shared.data.events.repairs import RecordingUnreadable


def make(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def rows(root: Path, **options) -> list[tuple]:
    return [
        (found.split, found.name, found.path.name, found.labels and found.labels.relative_to(root).as_posix())
        for found in find_recordings(root, **options)
    ]


def test_etrams_folders_with_three_and_with_eight_classes(tmp_path: Path) -> None:
    eight = "class annotations/eight_class_annotations_train/train_day_0001_bbox.npy"
    root = make(
        tmp_path,
        "HDF5/train_h5_1/train_day_0001_td.h5", "HDF5/train_h5_1/train_day_0001_bbox.npy",
        "HDF5/train_h5_2/train_night_0002_td.h5", "HDF5/train_h5_2/train_night_0002_bbox.npy",
        "HDF5/val_h5_1/val_day_0001_td.h5", "HDF5/val_h5_1/val_day_0001_bbox.npy",
        "HDF5/test_h5_1/test_day_0003_td.h5",
        eight,
    )  # fmt: skip
    assert rows(root) == [
        ("train", "train_day_0001", "train_day_0001_td.h5", "HDF5/train_h5_1/train_day_0001_bbox.npy"),
        ("train", "train_night_0002", "train_night_0002_td.h5", "HDF5/train_h5_2/train_night_0002_bbox.npy"),
        ("val", "val_day_0001", "val_day_0001_td.h5", "HDF5/val_h5_1/val_day_0001_bbox.npy"),
        ("test", "test_day_0003", "test_day_0003_td.h5", None),
    ]
    # Those with three classes are never taken for those with eight.
    assert [row[3] for row in rows(root, eight_classes=True)] == [eight, None, None, None]


def test_gen1_and_one_megapixel_folders(tmp_path: Path) -> None:
    root = make(
        tmp_path,
        "gen1/train/17-03-30_12-53-58_1037500000_1097500000_td.dat",
        "gen1/train/17-03-30_12-53-58_1037500000_1097500000_bbox.npy",
        "gen1/val/17-04-06_00-61500000_td.dat.h5",
        "gen4/test/moorea_2019-06-14_000_61500000_td.h5",
        "gen4/test/moorea_2019-06-14_000_61500000_bbox.npy",
    )
    assert [(split, name, bool(labels)) for split, name, _, labels in rows(root)] == [
        ("train", "17-03-30_12-53-58_1037500000_1097500000", True),
        ("val", "17-04-06_00-61500000", False),
        ("test", "moorea_2019-06-14_000_61500000", True),
    ]


def test_a_single_file_and_files_that_do_not_say_their_split(tmp_path: Path) -> None:
    path = make(tmp_path, "street.raw", "street_bbox.npy") / "street.raw"
    with pytest.raises(RecordingUnreadable, match="--split"):
        find_recordings(path)
    (found,) = find_recordings(path, split="test")
    assert (found.name, found.split, found.labels) == ("street", "test", tmp_path / "street_bbox.npy")


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "train/a/x_td.dat", "train/b/x_td.h5")
    with pytest.raises(RecordingUnreadable, match="both become train/x"):
        find_recordings(tmp_path)
    with pytest.raises(RecordingUnreadable, match="holds no recording"):
        find_recordings(make(tmp_path / "empty", "train/readme.txt"))


@pytest.mark.parametrize(
    ("file", "name"),
    [("a_td.dat.h5", "a"), ("a_td.dat", "a"), ("a_td.h5", "a"), ("a.RAW", "a"), ("a_b.hdf5", "a_b")],
)
def test_names_of_sequences(file: str, name: str) -> None:
    assert sequence_name(Path(file)) == name
