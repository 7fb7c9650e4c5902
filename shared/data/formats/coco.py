"""COCO JSON: one file per split, or a folder that holds several. Components spec §16."""

import json
import math
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from shared.data.dataset import Defect, DetectionRecord, DetectionSet, Severity
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.rows import LabelRow, usable_rows
from shared.data.formats.split_names import alternatives

_SAMPLED_IMAGES = 20


def recognises(path: Path) -> bool:
    """Say whether `path` is a JSON file or a folder with COCO annotation files in a usual place."""
    return path.suffix == ".json" if path.is_file() else bool(_annotation_files(path))


def splits(path: Path) -> list[str]:
    """Name the splits of a folder; empty for a single JSON file or a folder that holds just one file."""
    if path.is_file():
        return []
    files = _annotation_files(path)
    return list(files) if len(files) > 1 else []


def read(path: Path, split: str | None, images_dir: Path | None) -> DetectionSet:
    """Read one annotation file. Raises DatasetUnreadable where it is not COCO's structure."""
    annotations = path if path.is_file() else _choose_split(path, split)
    document = _load(annotations)
    folder = images_dir or _find_images_dir(annotations, document["images"])
    defects: list[Defect] = []
    class_names, class_index = _read_categories(document["categories"], annotations)
    images = _read_images(document["images"], defects)
    rows = _read_annotations(document["annotations"], images, class_index, defects)
    records = []
    for image_id, image in images.items():
        boxes, labels, ignore, found = usable_rows(rows[image_id], image["width"], image["height"])
        defects += found
        records.append(
            DetectionRecord(
                folder / image["file_name"], image["width"], image["height"], boxes, labels, ignore, image_id
            )
        )
    return DetectionSet(records, class_names, str(annotations), defects)


def _annotation_files(folder: Path) -> dict[str, Path]:
    """Map split names to annotation files: annotations/*.json, <split>/_annotations.coco.json or *.json."""
    files = sorted((folder / "annotations").glob("*.json"))
    instances = [file for file in files if file.stem.startswith("instances_")]
    files = instances or files
    if files:
        return {_split_name(file.stem): file for file in files}
    exported = sorted(folder.glob("*/_annotations.coco.json"))
    if exported:
        return {file.parent.name: file for file in exported}
    return {_split_name(file.stem): file for file in sorted(folder.glob("*.json"))}


def _split_name(stem: str) -> str:
    """Return "train" for "instances_train2017" and for "train"."""
    name = stem.removeprefix("instances_")
    return re.sub(r"(?<=[a-z])(19|20)\d\d$", "", name)


def _choose_split(folder: Path, split: str | None) -> Path:
    files = _annotation_files(folder)
    if not files:
        raise DatasetUnreadable(f"{folder} holds no COCO annotations; expected annotations/*.json in it")
    if split is None and len(files) == 1:
        return next(iter(files.values()))
    if split is None:
        raise DatasetUnreadable(f"{folder} holds the splits {', '.join(files)}; say which one to read")
    for name in (*alternatives(split), _split_name(split)):
        if name in files:
            return files[name]
    raise DatasetUnreadable(f"{folder} has no split {split!r}; it has {', '.join(files)}")


def _load(path: Path) -> dict[str, list[Any]]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, OSError) as error:
        raise DatasetUnreadable(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise DatasetUnreadable(f"{path} is not COCO JSON: expected an object, got {type(document).__name__}")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise DatasetUnreadable(f"{path} is not COCO JSON: it has no list {key!r}")
        if not all(isinstance(entry, dict) for entry in document[key]):
            raise DatasetUnreadable(f"{path} is not COCO JSON: {key!r} holds something that is not an object")
    return document


def _read_categories(categories: list[dict[str, Any]], path: Path) -> tuple[list[str], dict[int, int]]:
    """Return class names by ascending category id, and the map from id to index."""
    try:
        named = {int(category["id"]): str(category["name"]) for category in categories}
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetUnreadable(f"{path}: every category needs an integer 'id' and a 'name'") from error
    if len(named) != len(categories) or len(set(named.values())) != len(named):
        raise DatasetUnreadable(f"{path}: two categories share an id or a name")
    ids = sorted(named)
    return [named[category] for category in ids], {category: index for index, category in enumerate(ids)}


def _read_images(entries: list[dict[str, Any]], defects: list[Defect]) -> dict[int | str, dict[str, Any]]:
    images: dict[int | str, dict[str, Any]] = {}
    names: set[str] = set()
    for position, entry in enumerate(entries):
        where = str(entry.get("file_name", f"images[{position}]"))
        problem = _image_problem(entry)
        if problem is None and entry["id"] in images:
            problem = f"image id {entry['id']} is used twice"
        if problem is not None:
            defects.append(Defect(Severity.ERROR, "bad_image_entry", where, f"{problem}; left out"))
            continue
        if entry["file_name"] in names:
            defects.append(
                Defect(Severity.WARNING, "duplicate_image_entry", where, "two image entries name this file")
            )
        names.add(entry["file_name"])
        images[entry["id"]] = entry
    return images


def _image_problem(entry: dict[str, Any]) -> str | None:
    if not isinstance(entry.get("id"), int | str):
        return "the image entry has no 'id'"
    name = entry.get("file_name")
    if not isinstance(name, str) or not name:
        return "the image entry has no 'file_name'"
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or "\0" in name:
        return f"file_name {name!r} leads out of the images' folder"
    for side in ("width", "height"):
        value = entry.get(side)
        if not isinstance(value, int) or value < 1:
            return f"{side} is {value!r}, not a number of pixels"
    return None


def _read_annotations(
    entries: list[dict[str, Any]],
    images: dict[int | str, dict[str, Any]],
    class_index: dict[int, int],
    defects: list[Defect],
) -> dict[int | str, list[LabelRow]]:
    rows: dict[int | str, list[LabelRow]] = defaultdict(list)
    for position, entry in enumerate(entries):
        image_id = entry.get("image_id")
        where = f"annotation {entry.get('id', f'at position {position}')}"
        if not isinstance(image_id, int | str) or image_id not in images:
            detail = f"image_id {image_id!r} is not among the images; left out"
            defects.append(Defect(Severity.ERROR, "label_without_image", where, detail))
            continue
        row = _label_row(entry, f"{images[image_id]['file_name']}, {where}", class_index)
        if isinstance(row, Defect):
            defects.append(row)
        else:
            rows[image_id].append(row)
    return rows


def _label_row(entry: dict[str, Any], where: str, class_index: dict[int, int]) -> LabelRow | Defect:
    category, bbox = entry.get("category_id"), entry.get("bbox")
    if not isinstance(category, int) or category not in class_index:
        detail = f"category_id {category!r} is not among the categories; left out"
        return Defect(Severity.ERROR, "unknown_category", where, detail)
    box = _corners(bbox)
    if box is None:
        return Defect(Severity.ERROR, "bad_box", where, f"bbox {bbox!r} is not four numbers; left out")
    return LabelRow(box, class_index[category], bool(entry.get("iscrowd", 0)), where)


def _corners(bbox: object) -> tuple[float, float, float, float] | None:
    """Turn COCO's [left, top, width, height] into corners; None where it is not four numbers."""
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in bbox):
        return None
    left, top, width, height = (float(value) for value in bbox)
    return left, top, left + width, top + height


def _find_images_dir(annotations: Path, images: list[dict[str, Any]]) -> Path:
    """Return the usual place in which most of the first images exist.

    Tried are the sibling folder named like the split (train2017/ or train/), the same below images/ and
    beside the JSON file, then images/, the JSON file's own folder and the one above. Where none of them
    holds an image, the first that exists is returned, and the pictures show up as missing one by one.
    """
    home, root = annotations.parent, annotations.parent.parent
    stem = annotations.stem
    names = list(dict.fromkeys([stem.removeprefix("instances_"), _split_name(stem), stem.rpartition("_")[2]]))
    candidates = [
        *(root / name for name in names),
        *(root / "images" / name for name in names),
        *(home / name for name in names),
        home / "images",
        root / "images",
        home,
        root,
    ]
    step = math.ceil(len(images) / _SAMPLED_IMAGES) or 1
    sample = [str(entry.get("file_name")) for entry in images[::step]]
    existing = [folder for folder in candidates if folder.is_dir()]
    found = {folder: sum((folder / name).is_file() for name in sample) for folder in existing}
    return max(existing, key=lambda folder: found[folder], default=home)
