"""YOLO txt: one label file per picture, rows `class cx cy w h` relative to the picture. Components spec §16.

Layouts: a data.yaml (path, train, val, test, names), images/ beside labels/ with or without splits below
them, and <split>/images beside <split>/labels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from shared.data.dataset import Defect, DetectionRecord, DetectionSet, Severity
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.rows import LabelRow, usable_rows
from shared.data.formats.split_names import alternatives
from shared.vision.headers import ImageTooLarge, NotAnImage, TruncatedImage, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
RELATIVE_TOLERANCE = 1e-3  # five decimals round to 1.00001 at most; more than this is no rounding
YAML_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the pictures of each split lie (folders, or text files that list pictures), and class names."""

    root: Path
    splits: dict[str, list[Path]]
    class_names: list[str] | None


def recognises(path: Path) -> bool:
    """Say whether `path` is a data.yaml or a folder in one of the known layouts."""
    if path.is_file():
        return path.suffix in (".yaml", ".yml")
    return _find_yaml(path) is not None or bool(_folder_splits(path))


def splits(path: Path) -> list[str]:
    """Name the splits at `path`; empty when the data is not divided."""
    return [name for name in _layout(path).splits if name]


def read(path: Path, split: str | None, images_dir: Path | None) -> DetectionSet:
    """Read one split. Every picture's header is read for its size, since labels are relative to it.

    Without class names in a data.yaml or classes.txt the set is marked as having unnamed classes.
    """
    layout = _layout(path)
    sources = [images_dir] if images_dir else _choose_split(layout, path, split)
    defects: list[Defect] = []
    images = [image for source in sources for image in _list_images(source, layout.root)]
    parsed = [_read_picture(image, layout, defects) for image in images]
    for source in sources:
        defects += _orphan_labels(source, images)
    highest = max((row.label for _, _, rows in filter(None, parsed) for row in rows), default=0)
    class_names = layout.class_names or [f"class{index}" for index in range(highest + 1)]
    records = []
    for image, (width, height), rows in filter(None, parsed):
        boxes, labels, ignore, found = usable_rows(rows, width, height)
        defects += found
        records.append(
            DetectionRecord(image, width, height, boxes, labels, ignore, _image_id(image, layout.root))
        )
    return DetectionSet(
        records, class_names, str(path), defects, classes_named=layout.class_names is not None
    )


def _image_id(image: Path, root: Path) -> str:
    return image.relative_to(root).as_posix() if image.is_relative_to(root) else str(image)


def _find_yaml(folder: Path) -> Path | None:
    return next((folder / name for name in YAML_NAMES if (folder / name).is_file()), None)


def _folder_splits(folder: Path) -> dict[str, list[Path]]:
    """Map split names ("" for undivided data) to picture folders."""
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        inner = sorted(path for path in (folder / "images").iterdir() if path.is_dir())
        return {path.name: [path] for path in inner} or {"": [folder / "images"]}
    if not folder.is_dir():
        return {}
    return {
        path.name: [path / "images"]
        for path in sorted(folder.iterdir())
        if (path / "images").is_dir() and (path / "labels").is_dir()
    }


def _layout(path: Path) -> _Layout:
    description = path if path.is_file() else _find_yaml(path)
    if description is not None:
        return _yaml_layout(description)
    found = _folder_splits(path)
    if not found:
        raise DatasetUnreadable(
            f"{path} is no YOLO data set: expected a data.yaml, or images/ beside labels/"
        )
    return _Layout(path, found, _classes_file(path))


def _classes_file(folder: Path) -> list[str] | None:
    for name in ("classes.txt", "obj.names"):
        for file in (folder / name, folder / "labels" / name):
            if file.is_file():
                return [
                    line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()
                ]
    return None


def _yaml_layout(description: Path) -> _Layout:
    try:
        document = yaml.safe_load(description.read_bytes())
    except (yaml.YAMLError, OSError) as error:
        raise DatasetUnreadable(f"{description} cannot be read as YAML: {error}") from error
    if not isinstance(document, dict):
        raise DatasetUnreadable(f"{description} is no YOLO data set: expected keys train, val and names")
    root = (description.parent / str(document.get("path") or "")).resolve()
    if not root.is_dir():  # `path` often names a folder on the author's machine
        root = description.parent.resolve()
    found: dict[str, list[Path]] = {}
    for name in ("train", "val", "test"):
        value = document.get(name)
        if value:
            found[name] = [_yaml_source(root, str(entry)) for entry in _as_list(value)]
    if not found:
        raise DatasetUnreadable(f"{description} names no pictures: expected at least one of train, val, test")
    return _Layout(root, found, _yaml_class_names(document.get("names"), description))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _yaml_source(root: Path, entry: str) -> Path:
    """Resolve one entry of train/val/test; exports that say ../train/images mean train/images."""
    source = root / entry
    while not source.exists() and entry.startswith("../"):
        entry = entry.removeprefix("../")
        source = root / entry
    return source


def _yaml_class_names(names: Any, description: Path) -> list[str] | None:
    if names is None:
        return None
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise DatasetUnreadable(
                f"{description}: names must be numbered 0, 1, 2, ... without gaps, got {list(names)}"
            )
        return [str(names[index]) for index in range(len(names))]
    if isinstance(names, list):
        return [str(name) for name in names]
    raise DatasetUnreadable(f"{description}: names must be a list or a map from numbers, got {names!r}")


def _choose_split(layout: _Layout, path: Path, split: str | None) -> list[Path]:
    if split is None:
        if len(layout.splits) == 1:
            return next(iter(layout.splits.values()))
        raise DatasetUnreadable(f"{path} holds the splits {', '.join(layout.splits)}; say which one to read")
    for name in alternatives(split):
        if name in layout.splits:
            return layout.splits[name]
    known = ", ".join(filter(None, layout.splits)) or "none, its data is not divided"
    raise DatasetUnreadable(f"{path} has no split {split!r}; it has {known}")


def _list_images(source: Path, root: Path) -> Iterator[Path]:
    if source.is_file() and source.suffix == ".txt":
        for line in source.read_text(encoding="utf-8").splitlines():
            if line.strip():
                listed = Path(line.strip())
                yield listed if listed.is_absolute() else (root / listed)
        return
    if not source.is_dir():
        raise DatasetUnreadable(f"{source} does not exist; correct the data.yaml or the folder's layout")
    yield from sorted(path for path in source.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)


def _labels_folder(images: Path) -> Path:
    """Return the folder like `images` in which the last part named images is labels instead."""
    parts = list(images.parts)
    for position in range(len(parts) - 1, -1, -1):
        if parts[position] == "images":
            parts[position] = "labels"
            return Path(*parts)
    return images  # labels lie beside the pictures


def _label_file(image: Path) -> Path:
    return (_labels_folder(image.parent) / image.name).with_suffix(".txt")


def _orphan_labels(source: Path, images: list[Path]) -> Iterator[Defect]:
    if not source.is_dir():
        return
    known = {_label_file(image) for image in images}
    for file in sorted(_labels_folder(source).rglob("*.txt")):
        if file not in known and file.name not in ("classes.txt", "train.txt", "val.txt", "test.txt"):
            yield Defect(
                Severity.ERROR,
                "label_without_image",
                file.name,
                "no picture has this name; its boxes are left out",
            )


def _read_picture(
    image: Path, layout: _Layout, defects: list[Defect]
) -> tuple[Path, tuple[int, int], list[LabelRow]] | None:
    """Return a picture's path, (width, height) and rows; None, with a defect, where it cannot be used."""
    where = _image_id(image, layout.root)
    try:
        height, width = read_header(image.read_bytes()).size
    except FileNotFoundError:
        defects.append(Defect(Severity.ERROR, "missing_image", where, "the file does not exist; left out"))
        return None
    except TruncatedImage as error:
        defects.append(Defect(Severity.ERROR, "truncated_image", where, f"{error}; left out"))
        return None
    except (NotAnImage, ImageTooLarge, OSError) as error:
        defects.append(Defect(Severity.ERROR, "unreadable_image", where, f"{error}; left out"))
        return None
    file = _label_file(image)
    if not file.is_file():
        return image, (width, height), []  # background
    class_count = len(layout.class_names) if layout.class_names is not None else None
    rows = []
    for number, line in enumerate(_label_lines(file, defects), start=1):
        if line.strip():
            row = _parse_row(line, f"{file.name}:{number}", (width, height), class_count, defects)
            if row is not None:
                rows.append(row)
    return image, (width, height), rows


def _label_lines(file: Path, defects: list[Defect]) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        defects.append(
            Defect(Severity.ERROR, "unreadable_labels", file.name, f"{error}; all its boxes are left out")
        )
        return []


def _parse_row(
    line: str, where: str, size: tuple[int, int], class_count: int | None, defects: list[Defect]
) -> LabelRow | None:
    """Return one row as corners in pixels; None, with a defect, where it cannot be used."""

    def refused(code: str, detail: str) -> None:
        defects.append(Defect(Severity.ERROR, code, where, f"{detail}; left out"))

    fields = line.split()
    shown = repr(line.strip()[:80])
    is_polygon = len(fields) >= 7 and len(fields) % 2 == 1
    if len(fields) != 5 and not is_polygon:
        refused("wrong_field_count", f"{len(fields)} fields, expected `class cx cy w h`")
        return None
    try:
        category, values = float(fields[0]), [float(field) for field in fields[1:]]
    except ValueError:
        refused("not_a_number", f"{shown} is not all numbers")
        return None
    if not all(map(math.isfinite, (category, *values))):
        refused("not_finite", f"{shown} holds NaN or infinity")
        return None
    if category != int(category) or category < 0 or (class_count is not None and category >= class_count):
        known = "" if class_count is None else f", expected 0..{class_count - 1}"
        refused("unknown_category", f"class {fields[0]}{known}")
        return None
    if min(values) < -RELATIVE_TOLERANCE or max(values) > 1 + RELATIVE_TOLERANCE:
        refused("out_of_range", f"{shown} goes beyond 0..1; values are relative to the picture")
        return None
    if is_polygon:
        defects.append(
            Defect(Severity.WARNING, "segmentation_row", where, "a polygon; its bounding box is used")
        )
        x1, y1, x2, y2 = min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    else:
        cx, cy, box_width, box_height = values
        x1, y1, x2, y2 = cx - box_width / 2, cy - box_height / 2, cx + box_width / 2, cy + box_height / 2
    width, height = size
    return LabelRow((x1 * width, y1 * height, x2 * width, y2 * height), int(category), False, where)
