"""The dataset check: read everything, count it, and name every defect. Nothing is changed."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Defect, DetectionRecord, DetectionSet, Severity
from shared.data.duplicates import difference_hash, near_pairs
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.registry import detect_format, find_splits, read_detection_set
from shared.data.report import BoxSizes, ClassCount, DataReport, DefectReport, SplitReport, Spread
from shared.vision.decode import decode_image
from shared.vision.headers import ImageTooLarge, TruncatedImage, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
SMALL_AREA_PX, MEDIUM_AREA_PX = 32**2, 96**2  # COCO's limits

Progress = Callable[[int, int], None]  # pictures done, pictures in all


@dataclass(slots=True)
class _Picture:
    """What reading one picture brought to light; digest and look are None where it cannot be used."""

    split: str
    name: str
    digest: str | None = None
    look: NDArray[np.uint64] | None = None
    defects: list[Defect] = field(default_factory=list)


def check_dataset(
    path: Path,
    *,
    format: str = "auto",  # noqa: A002 - the word users know
    images_dir: Path | None = None,
    progress: Progress | None = None,
) -> DataReport:
    """Check every split at `path`: labels, files, sizes, rotation, duplicates within and across splits.

    Every picture is decoded, on all processors. A data set that cannot be read at all gives a report with an
    error, like any other defect. Raises FileNotFoundError only where `path` does not exist.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    defects: list[tuple[str, Defect]] = []
    name, sets = _read_all(path, format, images_dir, defects)
    for split, dataset in sets.items():
        defects += [(split, defect) for defect in [*dataset.defects, *_label_notes(dataset)]]
    defects += _unlisted_files(sets)
    pictures = _read_pictures(sets, progress)
    for picture in pictures:
        defects += [(picture.split, defect) for defect in picture.defects]
    defects += _equal_files(pictures)
    defects += _look_alikes(pictures)
    reports = [_describe(split, dataset) for split, dataset in sets.items()]
    return _report(path, name, reports, defects)


def _read_all(
    path: Path, name: str, images_dir: Path | None, defects: list[tuple[str, Defect]]
) -> tuple[str, dict[str, DetectionSet]]:
    sets: dict[str, DetectionSet] = {}
    try:
        name = detect_format(path) if name == "auto" else name
        splits: list[str | None] = [*find_splits(path, format=name)] or [None]
    except DatasetUnreadable as error:
        defects.append(("", Defect(Severity.ERROR, "unreadable_dataset", str(path), str(error))))
        return name, sets
    for split in splits:
        try:
            sets[split or ""] = read_detection_set(path, format=name, split=split, images_dir=images_dir)
        except DatasetUnreadable as error:
            defects.append(
                (split or "", Defect(Severity.ERROR, "unreadable_dataset", split or str(path), str(error)))
            )
    return name, sets


def _label_notes(dataset: DetectionSet) -> Iterator[Defect]:
    """Things that are as they should be and still worth a line."""
    crowd = sum(int(record.ignore.sum()) for record in dataset.records)
    if crowd:
        detail = f"{crowd} crowd boxes; left out of training, ignored in AP"
        yield Defect(Severity.NOTE, "crowd", "", detail)
    for record in dataset.records:
        if len(record.boxes) == 0:
            yield Defect(Severity.NOTE, "no_labels", record.image_path.name, "no boxes; used as background")
    used = {int(label) for record in dataset.records for label in np.unique(record.labels)}
    absent = [name for index, name in enumerate(dataset.class_names) if index not in used]
    if absent:
        detail = f"{len(absent)} of {len(dataset.class_names)} classes: {', '.join(absent)}"
        yield Defect(Severity.NOTE, "classes_without_boxes", "", detail)
    if not dataset.records:
        yield Defect(Severity.ERROR, "no_images", dataset.source, "no usable picture at all")


def _unlisted_files(sets: dict[str, DetectionSet]) -> Iterator[tuple[str, Defect]]:
    """Pictures that lie among the listed ones and have no entry in any split."""
    records = [(split, record) for split, dataset in sets.items() for record in dataset.records]
    folders = {record.image_path.parent: split for split, record in records}
    listed = {record.image_path for _, record in records}
    reported = {Path(defect.where).name for dataset in sets.values() for defect in dataset.defects}
    for folder, split in folders.items():
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_picture = file.suffix.lower() in IMAGE_SUFFIXES
            if is_picture and file not in listed and file.name not in reported:
                detail = "lies among the pictures but no label file lists it"
                yield split, Defect(Severity.WARNING, "image_not_listed", file.name, detail)


def _read_pictures(sets: dict[str, DetectionSet], progress: Progress | None) -> list[_Picture]:
    work = [(split, record) for split, dataset in sets.items() for record in dataset.records]
    pictures: list[_Picture] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # decoding releases the lock
        for picture in pool.map(lambda item: _read_picture(*item), work):
            pictures.append(picture)
            if progress:
                progress(len(pictures), len(work))
    return pictures


def _read_picture(split: str, record: DetectionRecord) -> _Picture:
    picture = _Picture(split, record.image_path.name)

    def report(severity: Severity, code: str, detail: str) -> _Picture:
        picture.defects.append(Defect(severity, code, picture.name, detail))
        return picture

    try:
        data = record.image_path.read_bytes()
        header = read_header(data)
        image = decode_image(data)
    except FileNotFoundError:
        return report(Severity.ERROR, "missing_image", f"{record.image_path} does not exist")
    except TruncatedImage as error:
        return report(Severity.ERROR, "truncated_image", str(error))
    except ImageTooLarge as error:
        return report(Severity.ERROR, "image_too_large", str(error))
    except (ValueError, OSError) as error:
        return report(Severity.ERROR, "unreadable_image", str(error))
    picture.digest = hashlib.sha256(data).hexdigest()
    picture.look = difference_hash(image)
    stated, upright, stored = (record.height, record.width), header.size, (header.height, header.width)
    if stated == upright:
        if header.orientation != 1:
            detail = f"EXIF orientation {header.orientation}; labels are taken to fit the upright picture"
            report(Severity.WARNING if upright == stored else Severity.NOTE, "exif_rotation", detail)
    elif stated == stored:
        detail = (
            f"labels are for {_size(stored)} as stored; EXIF orientation {header.orientation} makes it "
            f"{_size(upright)}"
        )
        report(Severity.ERROR, "exif_size_mismatch", detail)
    else:
        detail = f"labels are for {_size(stated)}, the picture has {_size(upright)}"
        report(Severity.ERROR, "size_mismatch", detail)
    return picture


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def _equal_files(pictures: list[_Picture]) -> Iterator[tuple[str, Defect]]:
    """Equal files; across splits they let the model be tested on what it was trained on."""
    first: dict[str, _Picture] = {}
    for picture in pictures:
        if picture.digest is None:
            continue
        other = first.setdefault(picture.digest, picture)
        if other is picture:
            continue
        if other.split == picture.split:
            defect = Defect(
                Severity.WARNING, "duplicate_image", picture.name, f"the same file as {other.name}"
            )
        else:
            detail = f"the same file as {other.split}/{other.name}: what is tested was trained on"
            defect = Defect(Severity.ERROR, "duplicate_across_splits", picture.name, detail)
        yield picture.split, defect


def _look_alikes(pictures: list[_Picture]) -> Iterator[tuple[str, Defect]]:
    usable = [picture for picture in pictures if picture.look is not None]
    if not usable:
        return
    looks = np.stack([picture.look for picture in usable if picture.look is not None])
    for earlier, later in near_pairs(looks):
        first, second = usable[earlier], usable[later]
        if first.digest == second.digest:
            continue  # reported as equal files
        across = first.split != second.split
        severity = Severity.WARNING if across else Severity.NOTE
        detail = f"looks like {first.split + '/' if across else ''}{first.name}"
        yield second.split, Defect(severity, "near_duplicate", second.name, detail)


def _describe(split: str, dataset: DetectionSet) -> SplitReport:
    records = dataset.records
    counted = [~record.ignore for record in records]
    sizes = Counter(f"{record.width} x {record.height}" for record in records)
    classes = []
    for index, name in enumerate(dataset.class_names):
        per_image = [
            int((record.labels[keep] == index).sum()) for record, keep in zip(records, counted, strict=True)
        ]
        classes.append(ClassCount(name=name, boxes=sum(per_image), images=sum(map(bool, per_image))))
    return SplitReport(
        name=split,
        images=len(records),
        images_without_boxes=sum(len(record.boxes) == 0 for record in records),
        boxes=sum(int(keep.sum()) for keep in counted),
        crowd_boxes=sum(int(record.ignore.sum()) for record in records),
        image_sizes=dict(sizes.most_common()),
        classes=classes,
        box_sizes=_box_sizes(records),
    )


def _box_sizes(records: list[DetectionRecord]) -> BoxSizes | None:
    boxes = [record.boxes[~record.ignore] for record in records]
    heights = (
        np.concatenate(
            [np.full(len(part), record.height) for part, record in zip(boxes, records, strict=True)]
        )
        if records
        else np.zeros(0)
    )
    if len(heights) == 0:
        return None
    sides = np.concatenate(boxes)[:, 2:] - np.concatenate(boxes)[:, :2]
    areas = sides[:, 0] * sides[:, 1]
    small, large = int((areas < SMALL_AREA_PX).sum()), int((areas > MEDIUM_AREA_PX).sum())
    return BoxSizes(
        small=small,
        medium=len(areas) - small - large,
        large=large,
        width_px=_spread(sides[:, 0]),
        height_px=_spread(sides[:, 1]),
        relative_height=_spread(sides[:, 1] / heights),
    )


def _spread(values: NDArray[np.floating]) -> Spread:
    low, p05, median, p95, high = np.percentile(values, [0, 5, 50, 95, 100]).round(4).tolist()
    return Spread(min=low, p05=p05, median=median, p95=p95, max=high)


def _report(
    path: Path, name: str, splits: list[SplitReport], defects: list[tuple[str, Defect]]
) -> DataReport:
    order = list(Severity)
    defects.sort(key=lambda item: (order.index(item[1].severity), item[1].code, item[0]))
    severities = Counter(defect.severity for _, defect in defects)
    return DataReport(
        source=str(path),
        format=name,
        ok=severities[Severity.ERROR] == 0,
        errors=severities[Severity.ERROR],
        warnings=severities[Severity.WARNING],
        notes=severities[Severity.NOTE],
        defect_counts=dict(Counter(defect.code for _, defect in defects)),
        splits=splits,
        defects=[
            DefectReport(
                severity=defect.severity,
                code=defect.code,
                split=split,
                where=defect.where,
                detail=defect.detail,
            )
            for split, defect in defects
        ],
    )
