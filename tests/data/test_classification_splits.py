import json
import random
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.config.schema import DataConfig
from shared.data.classification import ClassificationSet
from shared.data.classification_splits import parse_ratios, read_classification_splits, stratified_parts
from shared.data.formats import DatasetUnreadable
from shared.data.formats.classification import find_classification_splits, read_classification_set
from shared.data.leaks import find_leaks, read_looks, refuse_leaks
from shared.data.split_file import SplitFile, describe_parts, read_split_file, write_split_file
from tests.data.strips import scene, write

CLASSES = ["1", "2", "3", "4"]
RATIOS = {"train": 70.0, "val": 15.0, "test": 15.0}


@pytest.fixture
def strips(tmp_path: Path) -> Path:
    """60 pictures, some with classes; 050-052 copies, 053 a look-alike of 000."""
    root = tmp_path / "strips"
    rng = np.random.default_rng(1)
    rows = []
    for index in range(50):
        write(root / "train_images" / f"{index:03}.jpg", scene(index))
        rows += [
            (index, number) for number in (1, 2, 3, 4) if rng.random() < (0.3, 0.1, 0.4, 0.2)[number - 1]
        ]
    for copy, source in ((50, 10), (51, 10), (52, 20)):
        data = (root / "train_images" / f"{source:03}.jpg").read_bytes()
        (root / "train_images" / f"{copy:03}.jpg").write_bytes(data)
        rows += [(copy, number) for index, number in rows if index == source]
    write(root / "train_images" / "053.jpg", cv2.resize(scene(0), (144, 58)), quality=70)
    for index in range(54, 60):
        write(root / "train_images" / f"{index:03}.jpg", scene(index))
    lines = [f"{index:03}.jpg,{number},1 3" for index, number in rows]
    (root / "train.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *lines]) + "\n")
    return root


def divide(dataset: ClassificationSet, seed: int = 0) -> dict[str, ClassificationSet]:
    return stratified_parts(dataset, RATIOS, seed=seed, looks=read_looks(dataset.records))


def ids(part: ClassificationSet) -> set[str]:
    return {record.image_id for record in part.records}


def test_every_picture_is_in_one_part_and_copies_and_look_alikes_together(strips: Path) -> None:
    dataset = read_classification_set(strips)
    for seed in range(5):
        parts = divide(dataset, seed)
        assert sum(len(part) for part in parts.values()) == len(dataset) == 60
        assert set.union(*map(ids, parts.values())) == ids(dataset)
        for together in ({"010.jpg", "050.jpg", "051.jpg"}, {"020.jpg", "052.jpg"}, {"000.jpg", "053.jpg"}):
            assert sum(bool(together & ids(part)) for part in parts.values()) == 1
        looks = read_looks([record for part in parts.values() for record in part.records])
        assert list(find_leaks(parts, looks)) == []


def test_groups_stay_together(strips: Path) -> None:
    dataset = read_classification_set(strips)
    for record in dataset.records:
        record.group = f"specimen-{int(record.image_id[:3]) % 12}"
    parts = divide(dataset)
    groups = [{record.group for record in part.records} for part in parts.values()]
    assert sum(map(len, groups)) == len(set.union(*groups))
    assert all(groups)


def test_the_division_depends_on_content_and_seed_not_on_names_or_order(strips: Path, tmp_path: Path) -> None:
    dataset = read_classification_set(strips)
    first = {name: ids(part) for name, part in divide(dataset).items()}
    random.Random(5).shuffle(dataset.records)
    assert {name: ids(part) for name, part in divide(dataset).items()} == first
    for record in dataset.records:
        moved = tmp_path / "renamed" / f"{record.image_id[::-1]}.jpg"
        moved.parent.mkdir(exist_ok=True)
        moved.write_bytes(record.image_path.read_bytes())
        record.image_path, record.image_id = moved, moved.name
    renamed = divide(dataset)
    for name, members in first.items():
        assert {f"{image_id[::-1]}.jpg" for image_id in members} == ids(renamed[name])
    assert any(ids(part) != ids(divide(dataset, seed=9)[name]) for name, part in renamed.items())


def test_too_few_pictures_that_may_be_apart(strips: Path) -> None:
    dataset = read_classification_set(strips)
    for record in dataset.records:
        record.group = "the only specimen"
    with pytest.raises(ValueError, match=r"has 1 pictures or groups .* too few for 3 splits"):
        divide(dataset)


def test_a_run_on_undivided_data_is_stratified(strips: Path) -> None:
    splits = read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=3)
    assert splits.test is not None
    assert [len(splits.train), len(splits.val), len(splits.test)] == pytest.approx([42, 9, 9], abs=2)
    again = read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=3)
    assert ids(splits.val) == ids(again.val)
    assert ids(splits.val) != ids(
        read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=4).val
    )


def test_a_split_file_repeats_a_division(strips: Path, tmp_path: Path) -> None:
    parts = divide(read_classification_set(strips), seed=11)
    file = tmp_path / "kept.json"
    write_split_file(file, describe_parts(parts, seed=11, ratios=RATIOS))
    config = DataConfig(path=str(strips), split_file=str(file))
    splits = read_classification_splits(config, strips, ["3", "1"], seed=0)
    assert ids(splits.train) == ids(parts["train"])
    assert ids(splits.val) == ids(parts["val"])
    assert splits.test is not None
    assert ids(splits.test) == ids(parts["test"])
    assert splits.train.class_names == ["3", "1"]
    stored = json.loads(file.read_text())
    assert stored["seed"] == 11
    assert stored["ratios"] == RATIOS
    assert stored["data_hash"] == read_classification_set(strips).content_hash()


def test_a_split_file_that_is_nowhere_is_named(strips: Path) -> None:
    config = DataConfig(path=str(strips), split_file="gone.json")
    with pytest.raises(DatasetUnreadable, match=r"data\.split_file=gone\.json: no such file"):
        read_classification_splits(config, strips, CLASSES, seed=0)


def test_a_split_file_beside_the_data_is_found(strips: Path) -> None:
    parts = divide(read_classification_set(strips), seed=11)
    write_split_file(strips / "splits.json", describe_parts(parts))
    assert find_classification_splits(strips) == ["train", "val", "test"]
    splits = read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=0)
    assert ids(splits.val) == ids(parts["val"])
    assert ids(read_classification_set(strips, split="valid")) == ids(parts["val"])
    with pytest.raises(ValueError, match=r"no split 'holdout'; set data\.train to one of train, val, test"):
        read_classification_splits(DataConfig(path=str(strips), train="holdout"), strips, CLASSES, seed=0)


def test_a_split_file_of_selected_classes_fits_the_same_selection(strips: Path, tmp_path: Path) -> None:
    config = DataConfig(path=str(strips))
    splits = read_classification_splits(config, strips, ["3", "1"], seed=2)
    assert splits.test is not None
    file = tmp_path / "run.json"
    write_split_file(file, describe_parts({"train": splits.train, "val": splits.val, "test": splits.test}))
    again = read_classification_splits(
        DataConfig(path=str(strips), split_file=str(file)), strips, ["3", "1"], seed=7
    )
    assert ids(again.val) == ids(splits.val)


def test_a_file_of_some_pictures_fits_only_where_others_are_allowed(strips: Path) -> None:
    whole = read_classification_set(strips)
    some = replace(whole, records=whole.records[:3])
    file = describe_parts({"train": some})
    with pytest.raises(DatasetUnreadable, match="of its pictures are not in the file"):
        file.apply(whole)
    assert file.apply(whole, others=True)["train"].records == some.records
    with pytest.raises(DatasetUnreadable, match="1 of the file's pictures are not in it"):
        file.apply(replace(whole, records=whole.records[1:]), others=True)


def test_a_split_file_for_other_data_says_what_differs(strips: Path) -> None:
    dataset = read_classification_set(strips)
    file = describe_parts(divide(dataset))
    write(strips / "train_images" / "001.jpg", scene(777))
    write(strips / "train_images" / "new.jpg", scene(778))
    (strips / "train_images" / "002.jpg").unlink()
    with (strips / "train.csv").open("a") as labels:
        labels.write("055.jpg,2,1 3\n")
    with pytest.raises(DatasetUnreadable) as caught:
        file.apply(read_classification_set(strips))
    message = str(caught.value)
    assert "1 of the file's pictures are not in it (002.jpg)" in message
    assert "1 of its pictures are not in the file (new.jpg)" in message
    assert "2 have other bytes or other labels (001.jpg, 055.jpg)" in message
    with pytest.raises(
        DatasetUnreadable, match=r"its classes are \['1', '2'\], the file's \['1', '2', '3', '4'\]"
    ):
        file.apply(read_classification_set(strips, class_names=["1", "2"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_hash": "0" * 64}, None),
        ({"schema_version": 2}, "schema_version"),
        ({"surplus": 1}, "surplus"),
        ({"parts": {"train": ["a"], "val": ["a"]}}, "stand in the parts more than once, a in train and val"),
        ({"parts": {"train": ["a"]}}, "do not name the same pictures"),
    ],
)
def test_a_split_file_that_was_edited(
    strips: Path, tmp_path: Path, change: dict, message: str | None
) -> None:
    dataset = read_classification_set(strips)
    document = json.loads(describe_parts(divide(dataset)).model_dump_json()) | change
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(document))
    if message is None:
        with pytest.raises(DatasetUnreadable, match="the file was edited"):
            read_split_file(file).apply(dataset)
    else:
        with pytest.raises(DatasetUnreadable, match=message):
            read_split_file(file)


def test_what_is_no_split_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(DatasetUnreadable, match=r"x\.json is no split file"):
        read_split_file(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ("010.jpg", "050.jpg", "equal files"),
        ("000.jpg", "053.jpg", "they look alike"),
        ("030.jpg", "031.jpg", "both of group coil"),
    ],
)
def test_leaks_are_refused_with_both_names(strips: Path, train: str, test: str, reason: str) -> None:
    dataset = read_classification_set(strips)
    for record in dataset.records:
        record.group = "coil" if record.image_id in ("030.jpg", "031.jpg") else None
    parts = divide(dataset)
    everything = [record for part in parts.values() for record in part.records]
    moved = {
        "train": [record for record in everything if record.image_id != test],
        "test": [record for record in everything if record.image_id == test],
    }
    sets = {name: ClassificationSet(records, CLASSES, name) for name, records in moved.items()}
    looks = read_looks([*moved["train"], *moved["test"]])
    with pytest.raises(DatasetUnreadable) as caught:
        refuse_leaks(sets, looks)
    assert f"test/{test}: {reason}" in str(caught.value)
    assert "sightline data split" in str(caught.value)
    pairs = {(leak.first_id, leak.second_id) for leak in find_leaks(sets, looks)}
    assert any(second == test for _, second in pairs)
    if reason != "equal files":
        assert pairs == {(train, test)}


def test_the_same_picture_in_two_parts_is_a_leak(strips: Path) -> None:
    records = read_classification_set(strips).records[30:33]
    sets = {
        "train": ClassificationSet(records, CLASSES, "a"),
        "val": ClassificationSet(records[:1], CLASSES, "b"),
    }
    leaks = list(find_leaks(sets, read_looks([*records, *records[:1]])))
    assert [str(leak) for leak in leaks] == ["train/030.jpg and val/030.jpg: the same picture"]


def test_training_refuses_a_split_file_with_a_leak(strips: Path, tmp_path: Path) -> None:
    parts = divide(read_classification_set(strips))
    document = json.loads(describe_parts(parts).model_dump_json())
    holder = next(name for name, members in document["parts"].items() if "053.jpg" in members)
    other = next(name for name in document["parts"] if name != holder)
    document["parts"][holder].remove("053.jpg")
    document["parts"][other].append("053.jpg")
    file = tmp_path / "leaky.json"
    write_split_file(file, SplitFile.model_validate(document))
    config = DataConfig(path=str(strips), split_file=str(file))
    with pytest.raises(
        DatasetUnreadable, match=r"000\.jpg and .*053\.jpg: they look alike|053\.jpg and .*000"
    ):
        read_classification_splits(config, strips, CLASSES, seed=0)
    unchecked = read_classification_splits(config, strips, CLASSES, seed=0, check_leaks=False)
    assert len(unchecked.train)


def test_a_class_that_a_split_lacks_is_counted(strips: Path) -> None:
    lines = (strips / "train.csv").read_text().splitlines()
    kept = [line for line in lines if ",2," not in line]
    (strips / "train.csv").write_text("\n".join([*kept, "054.jpg,2,1 3"]) + "\n")
    splits = read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=0)
    assert splits.test is not None
    absent = {
        name: [defect.detail for defect in part.defects if defect.code == "class_absent"]
        for name, part in (("train", splits.train), ("val", splits.val), ("test", splits.test))
    }
    assert absent == {
        "train": [],
        "val": ["no picture of val holds class '2'"],
        "test": ["no picture of test holds class '2'"],
    }


def test_data_without_any_label_cannot_train(strips: Path) -> None:
    (strips / "train.csv").write_text("ImageId,ClassId,EncodedPixels\n")
    with pytest.raises(
        DatasetUnreadable, match="holds any of the classes 1, 2, 3, 4, so nothing can be learned"
    ):
        read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=0)


def test_data_that_came_divided(strips: Path) -> None:
    (strips / "train_images").rename(strips / "all")
    for index in range(60):
        if index not in (50, 51, 52, 53):
            name = f"{index:03}.jpg"
            folder = strips / ("val_images" if index % 5 == 0 else "train_images")
            folder.mkdir(exist_ok=True)
            (strips / "all" / name).rename(folder / name)
    rows = (strips / "train.csv").read_text().splitlines()[1:]
    for name in ("train", "val"):
        own = [row for row in rows if (strips / f"{name}_images" / row.split(",")[0]).is_file()]
        (strips / f"{name}.csv").write_text("\n".join(["ImageId,ClassId,EncodedPixels", *own]) + "\n")
    splits = read_classification_splits(DataConfig(path=str(strips)), strips, CLASSES, seed=0)
    assert (len(splits.train), len(splits.val), splits.test, splits.cut_off) == (45, 11, None, False)
    held_out = DataConfig(path=str(strips), val=None, val_fraction=0.25)
    splits = read_classification_splits(held_out, strips, CLASSES, seed=0)
    assert (len(splits.train), len(splits.val), splits.cut_off) == (33, 12, True)
    same = read_classification_splits(DataConfig(path=str(strips), val="train"), strips, CLASSES, seed=0)
    assert same.val is same.train


@pytest.mark.parametrize("text", ["", "70", "70,-1,5", "70,15,15,5", "a,b", "70;30", "nan,1", "inf,1"])
def test_ratios_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="are not two or three positive shares"):
        parse_ratios(text)


def test_ratios() -> None:
    assert parse_ratios("80,20") == {"train": 80, "val": 20}
    assert parse_ratios("0.7, 0.15,0.15") == {"train": 0.7, "val": 0.15, "test": 0.15}
