"""Severstal's train.csv in both public layouts, with run-length masks. Components spec §16.

(a) `ImageId_ClassId,EncodedPixels`: one row per picture and class, `0002cc93b.jpg_1`, empty where the class
is absent. (b) `ImageId,ClassId,EncodedPixels`: only rows with a defect; a picture of the folder without any
row holds none. In (b) a row may also have an empty EncodedPixels, which only says that the picture belongs.

The pictures lie in <csv's name>_images/ (train_images/), images/ or beside the CSV. Classes are 1, 2, 3, 4,
or what a classes.txt beside the CSV lists, one name a line; ClassId is then that name.

A row whose mask cannot be read takes its picture out: without the row it would pass for free of the defect.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from shared.data.classification import ClassificationRecord, ClassificationSet, other_sizes
from shared.data.dataset import Defect, Severity
from shared.data.formats.class_list import read_class_list
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.split_names import alternatives
from shared.data.picture_size import list_pictures, usable_size
from shared.data.regions import RunRegion
from shared.data.rle import BrokenRle, Runs, fits, in_order, parse_rle

CLASS_NAMES = ("1", "2", "3", "4")
SPLIT_NAMES = ("train", "val", "valid", "validation", "test")
JOINED, APART = ("ImageId_ClassId", "EncodedPixels"), ("ImageId", "ClassId", "EncodedPixels")
_LONGEST_FIELD = 50_000_000  # characters; csv's own limit of 131,072 is below a noisy mask of a large picture


@dataclass(frozen=True, slots=True)
class _Row:
    """`pixels` is None where the row has too few or too many fields for any but the first to be trusted."""

    image: str
    class_name: str
    pixels: str | None
    where: str


@dataclass(slots=True)
class _Labels:
    """What the rows of one picture say; `broken` where one of them cannot be trusted."""

    runs: dict[int, list[Runs]] = field(default_factory=lambda: defaultdict(list))
    broken: bool = False


def recognises(path: Path) -> bool:
    """Say whether `path` is, or directly holds, a CSV with one of the two headers."""
    return any(_header(file) is not None for file in _csv_files(path).values())


def splits(path: Path) -> list[str]:
    """Name the splits: train, val, ... where the folder holds a CSV for each; empty for a single CSV."""
    files = _csv_files(path)
    return list(files) if len(files) > 1 else []


def read(path: Path, split: str | None, images_dir: Path | None) -> ClassificationSet:
    """Read one CSV and the headers of its pictures. Raises DatasetUnreadable where nothing can be read."""
    files = _csv_files(path)
    file = _choose(path, files, split)
    class_names = read_class_list(file.parent) or list(CLASS_NAMES)
    defects: list[Defect] = []
    layout, rows = _read_rows(file, defects)
    folder = images_dir or _images_folder(file)
    present = {picture.name: picture for picture in list_pictures(folder)}
    labels = _collect(rows, class_names, defects)
    shares_folder = any(other != file and _images_folder(other) == folder for other in files.values())
    unlisted = [name for name in present if name not in labels]
    if shares_folder and unlisted:
        detail = f"{len(unlisted)} pictures of {folder} have no row in {file.name}; left out of this split"
        defects.append(Defect(Severity.NOTE, "image_not_listed", file.name, detail))
    elif layout == APART:
        labels |= {name: _Labels() for name in unlisted}
    else:
        detail = f"{file.name} has no row for it, though it has rows for pictures without defects; left out"
        defects += [Defect(Severity.WARNING, "image_not_listed", name, detail) for name in unlisted]
    records = []
    for name in sorted(labels):
        record = _record(name, present.get(name), folder, labels[name], class_names, defects)
        if record is not None:
            records.append(record)
    defects += other_sizes(records)
    return ClassificationSet(records, class_names, str(file), defects)


def _csv_files(path: Path) -> dict[str, Path]:
    """Map split names to CSV files: the file itself, or train.csv, val.csv, ... in the folder."""
    if path.is_file():
        return {path.stem: path} if path.suffix.lower() == ".csv" else {}
    named = {name: path / f"{name}.csv" for name in SPLIT_NAMES}
    found = {name: file for name, file in named.items() if file.is_file()}
    if found:
        return found
    others = sorted(file for file in path.glob("*.csv") if file.name != "sample_submission.csv")
    return {others[0].stem: others[0]} if len(others) == 1 else {}


def _header(file: Path) -> tuple[str, ...] | None:
    """Return the layout that the first line names, or None."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = next(csv.reader(lines), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    names = tuple(name.strip() for name in first)
    return next((layout for layout in (JOINED, APART) if set(layout) <= set(names)), None)


def _choose(path: Path, files: dict[str, Path], split: str | None) -> Path:
    if not files:
        raise DatasetUnreadable(
            f"{path} holds no train.csv; expected a CSV with the columns {' and '.join(JOINED)}, "
            f"or {', '.join(APART)}"
        )
    if len(files) == 1 and (split is None or path.is_file()):
        return next(iter(files.values()))
    if split is None:
        raise DatasetUnreadable(f"{path} holds the splits {', '.join(files)}; say which one to read")
    for name in alternatives(split):
        if name in files:
            return files[name]
    raise DatasetUnreadable(f"{path} has no split {split!r}; it has {', '.join(files)}")


def _read_rows(file: Path, defects: list[Defect]) -> tuple[tuple[str, ...], list[_Row]]:
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            header = [name.strip() for name in next(reader, [])]
            layout = _layout(file, header)
            return layout, list(_rows(reader, header, layout, file.name, defects))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetUnreadable(f"{file} cannot be read as CSV in UTF-8: {error}") from error


def _layout(file: Path, header: list[str]) -> tuple[str, ...]:
    if not any(header):
        raise DatasetUnreadable(f"{file} is empty; its first line must name the columns {', '.join(APART)}")
    for layout in (JOINED, APART):
        if set(layout) <= set(header):
            return layout
    raise DatasetUnreadable(
        f"{file} has the columns {', '.join(map(repr, header))}; expected {' and '.join(JOINED)}, "
        f"or {', '.join(APART)}"
    )


def _rows(
    reader: Iterator[list[str]], header: list[str], layout: tuple[str, ...], name: str, defects: list[Defect]
) -> Iterator[_Row]:
    columns = [header.index(column) for column in layout]
    for number, fields in enumerate(reader, start=2):
        if not any(field.strip() for field in fields):
            continue
        where = f"{name}:{number}"
        if len(fields) != len(header):
            detail = (
                f"{len(fields)} fields, expected {len(header)} ({', '.join(header)}); its picture is left out"
            )
            defects.append(Defect(Severity.ERROR, "wrong_field_count", where, detail))
            values = [fields[columns[0]].strip() if columns[0] < len(fields) else "", *[""] * len(layout)]
            pixels = None
        else:
            values = [fields[column].strip() for column in columns]
            pixels = "" if values[-1].lower() == "nan" else values[-1]
        image, class_name = values[:2]
        if layout == JOINED:
            image, _, class_name = values[0].rpartition("_")
        if pixels is None and not image:
            continue  # told above, and nobody knows of which picture
        pure = PurePosixPath(image)
        if not image or "\\" in image or "\0" in image or len(pure.parts) != 1 or image == "..":
            detail = f"{values[0]!r} does not name a picture in the images' folder; left out"
            defects.append(Defect(Severity.ERROR, "bad_image_name", where, detail))
            continue
        yield _Row(image, class_name, pixels, where)


def _collect(rows: list[_Row], class_names: list[str], defects: list[Defect]) -> dict[str, _Labels]:
    """Return for each picture named in the rows the runs of its classes, by class index."""
    labels: dict[str, _Labels] = {}
    seen: set[tuple[str, str, str]] = set()
    unknown = 0
    for row in rows:
        picture = labels.setdefault(row.image, _Labels())
        if row.pixels is None:
            picture.broken = True
            continue
        if not row.class_name and not row.pixels:
            continue  # says only that the picture belongs
        if row.class_name not in class_names:
            unknown += 1
            detail = f"class {row.class_name!r} is none of {', '.join(class_names)}; left out"
            defects.append(Defect(Severity.ERROR, "unknown_class", row.where, detail))
            continue
        key = (row.image, row.class_name, row.pixels)
        if key in seen:
            detail = "the same row stands twice; kept once"
            defects.append(Defect(Severity.WARNING, "duplicate_row", row.where, detail))
            continue
        seen.add(key)
        if row.pixels:
            _add(picture, class_names.index(row.class_name), row, row.pixels, defects)
    if rows and unknown == len(rows):
        raise DatasetUnreadable(
            f"no row has a known class: they have {rows[0].class_name!r} and the like, known are "
            f"{', '.join(class_names)}; list the names in a classes.txt beside the CSV, one a line"
        )
    return labels


def _add(picture: _Labels, label: int, row: _Row, pixels: str, defects: list[Defect]) -> None:
    try:
        runs = parse_rle(pixels)
    except BrokenRle as error:
        picture.broken = True
        defects.append(Defect(Severity.ERROR, "broken_rle", row.where, f"{error}; {row.image} is left out"))
        return
    if not in_order(runs):
        detail = "the runs overlap or do not ascend; their union is used"
        defects.append(Defect(Severity.WARNING, "rle_out_of_order", row.where, detail))
    if picture.runs[label]:
        detail = f"another mask of class {row.class_name} for {row.image}; both are used"
        defects.append(Defect(Severity.WARNING, "second_mask", row.where, detail))
    picture.runs[label].append(runs)


def _record(
    name: str, path: Path | None, folder: Path, labels: _Labels, class_names: list[str], defects: list[Defect]
) -> ClassificationRecord | None:
    if path is None:
        detail = f"its rows name a picture that is not in {folder}; left out"
        defects.append(Defect(Severity.ERROR, "label_without_image", name, detail))
        return None
    size = usable_size(path, name, defects)
    if size is None or labels.broken:
        return None
    held = np.zeros(len(class_names), bool)
    regions: list[RunRegion] = []
    for label, masks in labels.runs.items():
        for runs in masks:
            if not fits(runs, *size):
                last = int(runs.sum(axis=1).max()) - 1
                detail = (
                    f"a run of class {class_names[label]} ends at pixel {last}, the picture of "
                    f"{size[1]} x {size[0]} has {size[0] * size[1]}; left out"
                )
                defects.append(Defect(Severity.ERROR, "rle_beyond_image", name, detail))
                return None
            held[label] = True
            regions.append(RunRegion(label, runs))
    return ClassificationRecord(path, size[1], size[0], held, name, None, list(regions))


def _images_folder(file: Path) -> Path:
    """Return the usual place that exists; where none does, the CSV's own folder if it holds pictures."""
    for name in (f"{file.stem}_images", "images"):
        if (file.parent / name).is_dir():
            return file.parent / name
    if list_pictures(file.parent):
        return file.parent
    raise DatasetUnreadable(
        f"there are no pictures for {file}: expected a folder {file.stem}_images or images beside it; "
        "say where they are with --images"
    )
