"""Formats with one label file per picture: our JSON and labelme's."""

import base64
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco

from shared.data.formats import DatasetUnreadable
from shared.data.formats.classification import (
    detect_classification_format,
    find_classification_splits,
    read_classification_set,
)
from shared.data.split_file import describe_parts

BSDATA = Path(__file__).parents[3] / "shared" / "data" / "steel" / "bsdata"


@pytest.fixture
def write_json(tmp_path: Path, write_picture):
    """Write images/<name>.png (64 x 48) and annotations/<name>.json for each name."""

    def write(folder: str = "", **files: object) -> Path:
        root = tmp_path / "set"
        for seed, (name, document) in enumerate(files.items()):
            write_picture(root / folder / "images" / f"{name}.png", seed=seed)
            annotation = root / folder / "annotations" / f"{name}.json"
            annotation.parent.mkdir(parents=True, exist_ok=True)
            if document is not None:
                text = document if isinstance(document, str) else json.dumps(document)
                annotation.write_text(text)
        return root

    return write


@pytest.fixture
def write_labelme(tmp_path: Path, write_picture):
    def write(pictures: str = ".", labels: str = ".", **files: object) -> Path:
        root = tmp_path / "labelme"
        for seed, (name, changes) in enumerate(files.items()):
            write_picture(root / pictures / f"{name}.png", seed=seed)
            if changes is None:
                continue
            document = {
                "version": "5.4.1",
                "flags": {},
                "shapes": [],
                "imagePath": f"{name}.png",
                "imageData": base64.b64encode(b"\xff\xd8 not this one" * 20_000).decode(),
                "imageHeight": 48,
                "imageWidth": 64,
            }
            file = root / labels / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(document | changes))
        return root

    return write


def shape(label: str, points: list[list[float]], kind: str = "polygon") -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


SQUARE = [[10, 10], [19, 10], [19, 19], [10, 19]]


def codes(dataset) -> Counter[str]:
    return Counter(f"{defect.severity} {defect.code}" for defect in dataset.defects)


def held(dataset) -> dict[str, list[str]]:
    return {
        record.image_id: [dataset.class_names[label] for label in np.flatnonzero(record.labels)]
        for record in dataset.records
    }


def test_labels_and_regions(write_json) -> None:
    root = write_json(
        a={"image": "a.png", "labels": ["scratch"], "group": "s1"},
        b={
            "regions": [
                {"label": "pit", "polygon": SQUARE},
                {"label": "pit", "bbox": [0, 0, 4, 2]},
                {"label": "dent", "rle": "1 48"},
            ]
        },
        c={"labels": [], "width": 64, "height": 48},
    )
    dataset = read_classification_set(root)
    assert detect_classification_format(root) == "labels_json"
    assert dataset.class_names == ["dent", "pit", "scratch"]
    assert held(dataset) == {"a.png": ["scratch"], "b.png": ["dent", "pit"], "c.png": []}
    assert dataset.defects == []
    a, b, c = dataset.records
    assert (a.group, b.group) == ("s1", None)
    assert (a.regions_complete, b.regions_complete, c.regions_complete) == (False, True, True)
    areas = [(region.label, int(region.mask(48, 64).sum())) for region in b.regions]
    assert areas == [(1, 100), (1, 8), (0, 48)]
    assert b.regions[2].mask(48, 64)[:, 0].all()


def test_what_other_tools_call_these_things(write_json) -> None:
    blob = np.zeros((48, 64), np.uint8, order="F")
    blob[5:9, 30:40] = 1
    counts, last = [0], 0
    for value in blob.reshape(-1, order="F").tolist():
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    assert (coco.decode(coco.frPyObjects({"counts": counts, "size": [48, 64]}, 48, 64)) == blob).all()
    root = write_json(
        a={"file_name": "a.png", "labels": {"scratch": True, "pit": False}},
        b={"imagePath": "..\\images\\b.png", "regions": [{"category": "pit", "points": SQUARE}]},
        c={"regions": [{"class": "pit", "segmentation": [[value for point in SQUARE for value in point]]}]},
        d={"regions": [{"label": "pit", "segmentation": {"counts": counts, "size": [48, 64]}}]},
    )
    dataset = read_classification_set(root)
    assert held(dataset) == {"a.png": ["scratch"], "b.png": ["pit"], "c.png": ["pit"], "d.png": ["pit"]}
    assert (dataset.records[3].regions[0].mask(48, 64) == blob.astype(bool)).all()


@pytest.mark.parametrize(
    ("document", "code", "message"),
    [
        ("{", "unreadable_labels", "cannot be read as JSON"),
        ("[]", "unreadable_labels", "expected an object, got list"),
        ({"image": "bad.png"}, "unreadable_labels", "neither 'labels' nor 'regions'"),
        ({"labels": "scratch"}, "unreadable_labels", "not a list of class names"),
        ({"labels": [3]}, "unreadable_labels", "not a list of class names"),
        ({"labels": [], "image": "/etc/passwd"}, "unreadable_labels", "not a picture's file name"),
        ({"labels": [], "width": "wide", "height": 3}, "unreadable_labels", "not numbers of pixels"),
        ({"labels": [], "width": 48, "height": 64}, "size_mismatch", "labels are for 48 x 64"),
        ({"regions": [{"polygon": SQUARE}]}, "unreadable_labels", "label is None"),
        ({"regions": [{"label": "pit"}]}, "unreadable_labels", "none of rle, bbox, polygon"),
        ({"regions": [{"label": "pit", "polygon": SQUARE[:2]}]}, "unreadable_labels", "2 points has no area"),
        ({"regions": [{"label": "pit", "polygon": [[1, "x"]] * 3}]}, "unreadable_labels", "no list of x, y"),
        ({"regions": [{"label": "pit", "polygon": [[1, 1e9]] * 3}]}, "unreadable_labels", "reaches to 1e"),
        ({"regions": [{"label": "pit", "bbox": [1, 2, 0, 4]}]}, "unreadable_labels", "bbox"),
        ({"regions": [{"label": "pit", "rle": "1 2 3"}]}, "unreadable_labels", "3 values"),
        ({"regions": [{"label": "pit", "rle": "3000 100"}]}, "rle_beyond_image", "has only 3072"),
        ({"regions": [{"label": "pit", "bbox": [100, 100, 5, 5]}]}, "region_outside", "wholly outside"),
    ],
)
def test_a_picture_whose_labels_cannot_be_trusted_is_left_out(
    write_json, document: object, code: str, message: str
) -> None:
    root = write_json(good={"labels": ["pit"]}, bad=document)
    dataset = read_classification_set(root, format="labels_json")
    assert held(dataset) == {"good.png": ["pit"]}
    assert dataset.unlabelled == []
    assert [(str(defect.severity), defect.code) for defect in dataset.defects] == [("error", code)]
    assert message in dataset.defects[0].detail


def test_listed_classes_unknown_ones_missing_files_and_unlabelled_pictures(write_json) -> None:
    root = write_json(
        a={"labels": ["pit", "crack"]},
        b=None,
        c={"labels": ["pit"]},
        d={"labels": [], "image": "a.png"},
        e={"regions": [{"label": "pit", "bbox": [60, 40, 20, 20]}]},
    )
    (root / "images" / "c.png").unlink()
    (root / "classes.txt").write_text("scratch\npit\n")
    dataset = read_classification_set(root)
    assert dataset.class_names == ["scratch", "pit"]
    assert held(dataset) == {"a.png": ["pit"], "e.png": ["pit"]}
    assert codes(dataset) == {
        "error unknown_class": 1,
        "error missing_image": 1,
        "error image_described_twice": 1,
        "warning region_clipped": 1,
        "warning image_without_labels": 2,  # b has no file, and d's names another picture
    }
    assert [record.image_id for record in dataset.unlabelled] == ["b.png", "d.png"]


@pytest.mark.parametrize("layout", ["split inside", "split outside"])
def test_splits_agree_on_the_classes(write_json, layout: str) -> None:
    root = write_json("train", a={"labels": ["pit"]})
    write_json("val", b={"labels": ["crack"]})
    if layout == "split inside":
        for kind in ("images", "annotations"):
            for name in ("train", "val"):
                (root / kind).mkdir(exist_ok=True)
                (root / name / kind).rename(root / kind / name)
        for name in ("train", "val"):
            (root / name).rmdir()
    assert find_classification_splits(root) == ["train", "val"]
    train = read_classification_set(root, split="train")
    assert (train.class_names, held(train)) == (["crack", "pit"], {"a.png": ["pit"]})
    assert held(read_classification_set(root, split="valid")) == {"b.png": ["crack"]}
    with pytest.raises(DatasetUnreadable, match="holds the splits train, val"):
        read_classification_set(root)


def test_a_set_without_any_class(write_json) -> None:
    root = write_json(a={"labels": []})
    with pytest.raises(DatasetUnreadable, match=r"names no class at all; list the classes in a classes\.txt"):
        read_classification_set(root)
    (root / "classes.txt").write_text("pit\n")
    assert held(read_classification_set(root)) == {"a.png": []}


@pytest.mark.parametrize(("pictures", "labels"), [(".", "."), ("data", "label"), ("images", "annotations")])
def test_labelme_wherever_its_files_lie(write_labelme, pictures: str, labels: str) -> None:
    root = write_labelme(
        pictures,
        labels,
        a={"shapes": [shape("pit", SQUARE)]},
        b={"shapes": [], "flags": {"rust": True, "wet": False}},
        c=None,
    )
    assert detect_classification_format(root) == "labelme"
    dataset = read_classification_set(root)
    assert dataset.class_names == ["pit", "rust"]
    assert held(dataset) == {"a.png": ["pit"], "b.png": ["rust"]}
    assert [record.image_id for record in dataset.unlabelled] == ["c.png"]
    assert codes(dataset) == {"warning image_without_labels": 1}
    assert dataset.records[0].regions[0].mask(48, 64).sum() == 100
    assert [record.regions_complete for record in dataset.records] == [True, False]


def test_labelmes_other_shapes(write_labelme) -> None:
    root = write_labelme(
        a={"shapes": [shape("pit", [[30, 20], [20, 10]], "rectangle")]},
        b={"shapes": [shape("pit", [[30, 24], [30, 34]], "circle")]},
        c={"shapes": [shape("pit", [[1, 1], [9, 9]], "line"), shape("pit", SQUARE)]},
    )
    dataset = read_classification_set(root)
    rectangle, circle, line = dataset.records
    assert rectangle.regions[0].mask(48, 64).sum() == 100
    assert circle.regions[0].mask(48, 64).sum() == pytest.approx(np.pi * 10**2, rel=0.12)
    assert line.labels.tolist() == [True]
    assert (len(line.regions), line.regions_complete) == (1, False)
    assert codes(dataset) == {"warning shape_without_area": 1}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"imageHeight": 50}, "size_mismatch"),
        ({"imageHeight": None}, "unreadable_labels"),
        ({"shapes": [shape("pit", SQUARE[:2])]}, "unreadable_labels"),
        ({"shapes": [shape("", SQUARE)]}, "unreadable_labels"),
        ({"shapes": [shape("pit", [[1, 1]], "circle")]}, "unreadable_labels"),
        ({"imagePath": "gone.png"}, "missing_image"),
        ({"imagePath": 7}, "unreadable_labels"),
    ],
)
def test_labelme_files_that_cannot_be_trusted(write_labelme, changes: dict, code: str) -> None:
    root = write_labelme(good={"shapes": [shape("pit", SQUARE)]}, bad=changes)
    dataset = read_classification_set(root)
    assert held(dataset) == {"good.png": ["pit"]}
    assert codes(dataset)[f"error {code}"] == 1


def test_labelme_never_reads_beyond_its_folder(write_labelme, write_picture, tmp_path: Path) -> None:
    write_picture(tmp_path / "secret.png", seed=99)
    root = write_labelme(a={"shapes": [shape("pit", SQUARE)]}, b={"imagePath": "../secret.png"})
    dataset = read_classification_set(root)
    assert held(dataset) == {"a.png": ["pit"]}
    assert codes(dataset)["error missing_image"] == 1


def test_labelmes_pictures_of_one_name_in_two_folders_are_told_apart(write_labelme, write_picture) -> None:
    root = write_labelme("first", "first", a={"shapes": [shape("pit", SQUARE)]}, b={"shapes": []})
    second = json.loads((root / "first" / "a.json").read_text()) | {"shapes": [shape("rust", SQUARE)]}
    write_picture(root / "second" / "a.png", seed=7)
    (root / "second" / "a.json").write_text(json.dumps(second))
    dataset = read_classification_set(root)
    assert held(dataset) == {"b.png": [], "first/a.png": ["pit"], "second/a.png": ["rust"]}
    assert len(describe_parts({"train": dataset}).apply(dataset)["train"]) == 3


def test_labelme_is_not_divided(write_labelme) -> None:
    root = write_labelme(a={"shapes": [shape("pit", SQUARE)]})
    with pytest.raises(DatasetUnreadable, match="labelme data is not divided"):
        read_classification_set(root, split="train")


@pytest.mark.skipif(not BSDATA.is_dir(), reason="the BSData sample is not beside the repository")
def test_the_real_bsdata_sample() -> None:
    dataset = read_classification_set(BSDATA)
    assert dataset.class_names == ["Pitting"]
    assert (len(dataset), len(dataset.unlabelled)) == (28, 6)
    assert dataset.class_counts().tolist() == [28]
    assert sum(len(record.regions) for record in dataset.records) == 36
    assert all(record.regions_complete for record in dataset.records)
    assert codes(dataset) == {"warning other_size": 20, "warning image_without_labels": 6}


def test_the_first_file_may_be_broken_and_the_format_still_known(write_json) -> None:
    root = write_json(a="{", b={"labels": ["pit"]})
    assert detect_classification_format(root) == "labels_json"
    assert held(read_classification_set(root)) == {"b.png": ["pit"]}


def test_one_large_file_for_all_pictures_is_never_parsed_to_tell_the_format(
    write_coco, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coco({1: [[0, 0, 9, 9]]})
    (root / "images").mkdir()
    for module in ("labels_json", "labelme"):
        monkeypatch.setattr(f"shared.data.formats.{module}._LARGEST_FILE", 100)
        monkeypatch.setattr(f"shared.data.formats.{module}.load_object", lambda file: pytest.fail("parsed"))
    assert detect_classification_format(root) is None
