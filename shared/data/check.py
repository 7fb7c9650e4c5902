"""The dataset check: read everything, count it, and name every defect. Nothing is changed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Defect, DetectionRecord, DetectionSet, Severity
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.registry import detect_format, find_splits, read_detection_set
from shared.data.picture_check import Progress, alike, equal_files, read_pictures, unlisted_files
from shared.data.report import BoxSizes, ClassCount, DataReport, SplitReport, Spread, summary

SMALL_AREA_PX, MEDIUM_AREA_PX = 32**2, 96**2  # COCO's limits


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
    name, sets = read_all(path, format, images_dir, defects)
    for split, dataset in sets.items():
        defects += [(split, defect) for defect in [*dataset.defects, *_label_notes(dataset)]]
    defects += unlisted_files(sets)
    pictures = read_pictures(sets, progress)
    for picture in pictures:
        defects += [(picture.split, defect) for defect in picture.defects]
    defects += equal_files(pictures)
    defects += alike(pictures, across=Severity.WARNING)
    return DataReport(**summary(path, name, defects), splits=describe_splits(sets))


def read_all(
    path: Path, name: str, images_dir: Path | None, defects: list[tuple[str, Defect]]
) -> tuple[str, dict[str, DetectionSet]]:
    """Return the format and every split by name ("" for undivided data); what cannot be read is a defect."""
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


def describe_splits(sets: Mapping[str, DetectionSet]) -> list[SplitReport]:
    """Count what each split holds, without looking at a picture."""
    return [_describe(split, dataset) for split, dataset in sets.items()]


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
