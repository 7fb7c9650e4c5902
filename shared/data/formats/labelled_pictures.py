"""From what per-picture files say to records: the part that every format with one file per picture shares."""

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from shared.data.classification import ClassificationRecord, ClassificationSet, other_sizes
from shared.data.dataset import Defect, Severity
from shared.data.formats.class_list import FILE_NAME
from shared.data.formats.errors import DatasetUnreadable
from shared.data.picture_size import usable_size
from shared.data.regions import PolygonRegion, Region

OUTSIDE_TOLERANCE_PX = 1.0  # outlines are rounded; less than this beyond the edge is no defect
_FARTHEST_PX = 1e6


class BrokenLabels(ValueError):
    """A picture's labels cannot be trusted; the picture has to be left out."""


@dataclass(slots=True)
class Described:
    """What one file says of one picture.

    labels: names of the classes it holds; shapes: (class name, maker of the region from its class index), the
    region None where the shape has no area; size: (height, width) that the file states, if it does.
    """

    image: Path
    image_id: str
    where: str
    labels: list[str] = field(default_factory=list)
    shapes: list[tuple[str, Callable[[int], Region] | None]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    group: str | None = None


def load_object(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`. Raises BrokenLabels where there is none."""
    try:
        document = json.loads(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenLabels(f"cannot be read as JSON: {error}") from error
    if not isinstance(document, dict):
        raise BrokenLabels(f"expected an object, got {type(document).__name__}")
    return document


def polygon(points: object) -> Callable[[int], Region]:
    """Return a maker of the region inside [[x, y], ...]. Raises BrokenLabels for anything else."""
    if not isinstance(points, list) or not all(
        isinstance(point, list | tuple) and len(point) == 2 and all(map(is_number, point)) for point in points
    ):
        raise BrokenLabels(f"{str(points)[:60]} is no list of x, y pairs")
    if len(points) < 3:
        raise BrokenLabels(f"an outline of {len(points)} points has no area; it needs 3")
    array = np.array(points, dtype=np.float64)
    if np.abs(array).max() > _FARTHEST_PX:
        raise BrokenLabels(f"an outline reaches to {np.abs(array).max():.3g} px")
    return lambda label: PolygonRegion(label, array)


def is_number(value: object) -> bool:
    """Say whether a JSON value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def build_set(
    described: Iterable[Described],
    unlabelled: list[Path],
    class_names: list[str] | None,
    source: str,
    defects: list[Defect],
) -> ClassificationSet:
    """Check what the files say against the pictures and make a set of it.

    Without `class_names` the classes are all that occur, by name. A picture whose labels cannot be trusted is
    left out with a defect, never taken as free of defects.
    """
    files = list(described)
    if class_names is None:
        names = {name for entry in files for name in (*entry.labels, *(name for name, _ in entry.shapes))}
        class_names = sorted(names)
    if not class_names:
        raise DatasetUnreadable(
            f"{source} names no class at all; list the classes in a {FILE_NAME} beside the pictures' folder"
        )
    records: list[ClassificationRecord] = []
    seen: dict[Path, str] = {}
    for entry in files:
        if entry.image in seen:
            detail = f"{seen[entry.image]} already describes {entry.image.name}; left out"
            defects.append(Defect(Severity.ERROR, "image_described_twice", entry.where, detail))
            continue
        seen[entry.image] = entry.where
        record = _record(entry, class_names, defects)
        if record is not None:
            records.append(record)
    _tell_apart(records)
    records.sort(key=lambda record: record.image_id)
    defects += other_sizes(records)
    return ClassificationSet(
        records, class_names, source, defects, _unlabelled(unlabelled, len(class_names), defects)
    )


def _tell_apart(records: list[ClassificationRecord]) -> None:
    """Put folders before the ids of pictures that share a name: a split file names each by its id alone."""
    by_id: dict[str, list[ClassificationRecord]] = defaultdict(list)
    for record in records:
        by_id[record.image_id].append(record)
    for same in by_id.values():
        if len(same) > 1:
            root = os.path.commonpath([record.image_path.parent for record in same])
            for record in same:
                record.image_id = record.image_path.relative_to(root).as_posix()


def _record(entry: Described, class_names: list[str], defects: list[Defect]) -> ClassificationRecord | None:
    size = usable_size(entry.image, entry.image_id, defects)
    if size is None:
        return None
    if entry.size is not None and entry.size != size:
        detail = (
            f"its labels are for {entry.size[1]} x {entry.size[0]}, the picture has {size[1]} x {size[0]}; "
            "left out"
        )
        defects.append(Defect(Severity.ERROR, "size_mismatch", entry.where, detail))
        return None
    held = np.zeros(len(class_names), bool)
    regions: list[Region] = []
    with_region: set[str] = set()
    complete = True
    for name, make_region in [*((name, None) for name in entry.labels), *entry.shapes]:
        if name not in class_names:
            detail = f"class {name!r} is none of {', '.join(class_names)}; left out"
            defects.append(Defect(Severity.ERROR, "unknown_class", entry.where, detail))
            continue
        held[class_names.index(name)] = True
        if make_region is None:
            continue
        region = make_region(class_names.index(name))
        if not _inside(region, size, entry, defects):
            return None
        regions.append(region)
        with_region.add(name)
    complete = all(make is not None for _, make in entry.shapes) and all(
        name in with_region for name in entry.labels if name in class_names
    )
    return ClassificationRecord(
        entry.image, size[1], size[0], held, entry.image_id, entry.group, regions, complete
    )


def _inside(region: Region, size: tuple[int, int], entry: Described, defects: list[Defect]) -> bool:
    """Say whether the region can be used in a picture of `size` (height, width)."""
    height, width = size
    try:
        empty = not region.mask(height, width).any()
    except ValueError as error:
        defects.append(Defect(Severity.ERROR, "rle_beyond_image", entry.where, f"{error}; left out"))
        return False
    if empty:
        detail = f"a region lies wholly outside the {width} x {height} picture; the picture is left out"
        defects.append(Defect(Severity.ERROR, "region_outside", entry.where, detail))
        return False
    if isinstance(region, PolygonRegion):
        (left, top), (right, bottom) = region.points.min(axis=0), region.points.max(axis=0)
        if max(-left, -top, right - width, bottom - height) > OUTSIDE_TOLERANCE_PX:
            detail = f"a region reaches beyond the {width} x {height} picture; cut at its edge"
            defects.append(Defect(Severity.WARNING, "region_clipped", entry.where, detail))
    return True


def _unlabelled(images: list[Path], class_count: int, defects: list[Defect]) -> list[ClassificationRecord]:
    records = []
    for image in images:
        size = usable_size(image, image.name, defects)
        if size is None:
            continue
        detail = "no label file describes it, so it is not known to hold no class; left out"
        defects.append(Defect(Severity.WARNING, "image_without_labels", image.name, detail))
        records.append(ClassificationRecord(image, size[1], size[0], np.zeros(class_count, bool), image.name))
    return records
