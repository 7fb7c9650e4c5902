"""labelme: one JSON file per picture with `shapes`, beside the pictures or in a folder of its own.

A shape's label is a class the picture holds; so is a flag that is true. Polygons, rectangles and circles say
where; points and lines only that. The embedded `imageData` is not read: the picture is the file that
`imagePath` names, looked for where it says, then beside the JSON file and in images/, data/ and the folder
itself. Classes are those of a classes.txt in the folder, or all that occur.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.data.classification import ClassificationSet
from shared.data.dataset import Defect, Severity
from shared.data.formats.class_list import read_class_list
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.labelled_pictures import (
    BrokenLabels,
    Described,
    build_set,
    is_number,
    load_object,
    polygon,
)
from shared.data.picture_size import list_pictures
from shared.data.regions import Region, box_region

_PICTURE_FOLDERS = ("images", "data", "img", "JPEGImages", ".")
_CIRCLE_CORNERS = 64
_LARGEST_FILE = 128 * 2**20  # bytes of one picture's labels, the picture itself in base64 included


def recognises(path: Path) -> bool:
    """Say whether `path` is a folder with labelme JSON files, directly or one level down."""
    for file in _label_files(path)[:3]:
        try:
            document = load_object(file)
        except BrokenLabels:
            continue  # one of the others may show what it is
        if isinstance(document.get("shapes"), list) and "imagePath" in document:
            return True
    return False


def splits(path: Path) -> list[str]:
    """Return nothing: labelme knows no splits."""
    return []


def read(path: Path, split: str | None, images_dir: Path | None) -> ClassificationSet:
    """Read all label files. Raises DatasetUnreadable where there are none, or for a split."""
    if split is not None:
        raise DatasetUnreadable(f"{path} has no split {split!r}: labelme data is not divided")
    files = _label_files(path)
    if not files:
        raise DatasetUnreadable(f"{path} holds no labelme JSON files, neither directly nor one level down")
    defects: list[Defect] = []
    described: list[Described] = []
    folders: dict[Path, None] = {images_dir: None} if images_dir else {}
    distrusted: set[str] = set()
    for file in files:
        try:
            document = load_object(file)
            entry = _describe(document, file, _find_picture(document, file, path, images_dir), defects)
        except BrokenLabels as error:
            distrusted.add(file.stem)
            detail = f"{error}; its picture is left out"
            defects.append(Defect(Severity.ERROR, "unreadable_labels", file.name, detail))
            continue
        described.append(entry)
        if entry.image.parent.is_dir():
            folders[entry.image.parent] = None
    named = {entry.image for entry in described}
    unlabelled = [
        picture
        for folder in folders
        for picture in list_pictures(folder)
        if picture not in named and picture.stem not in distrusted
    ]
    return build_set(described, unlabelled, read_class_list(path), str(path), defects)


def _label_files(path: Path) -> list[Path]:
    """Return the JSON files of the folder, or else those of its sub-folders."""
    if not path.is_dir():
        return []
    beside_pictures = [file for file in sorted(path.glob("*.json")) if _has_shapes(file)]
    return beside_pictures or [file for file in sorted(path.glob("*/*.json")) if _has_shapes(file)]


def _has_shapes(file: Path) -> bool:
    """Say whether a file looks like labelme's; cheap, since the files embed whole pictures."""
    if file.stat().st_size > _LARGEST_FILE:
        return False
    with file.open("rb") as content:
        return b'"shapes"' in content.read(65_536) or b'"shapes"' in content.read()


def _find_picture(document: dict[str, Any], file: Path, root: Path, images_dir: Path | None) -> Path:
    stated = document.get("imagePath")
    if not isinstance(stated, str) or not stated or "\0" in stated:
        raise BrokenLabels(f"imagePath is {stated!r}, not a file name")
    relative = Path(stated.replace("\\", "/"))
    candidates = [images_dir / relative.name] if images_dir else []
    resolved = (file.parent / relative).resolve()
    if resolved.is_relative_to(root.resolve()):
        candidates.append(root / resolved.relative_to(root.resolve()))
    candidates += [file.parent / relative.name, *(root / name / relative.name for name in _PICTURE_FOLDERS)]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def _describe(document: dict[str, Any], file: Path, image: Path, defects: list[Defect]) -> Described:
    shapes, flags = document.get("shapes"), document.get("flags") or {}
    if not isinstance(shapes, list) or not isinstance(flags, dict):
        raise BrokenLabels("it has no list 'shapes'")
    size = (document.get("imageHeight"), document.get("imageWidth"))
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise BrokenLabels(f"imageHeight and imageWidth are {size[0]!r} and {size[1]!r}")
    found: list[tuple[str, Callable[[int], Region] | None]] = []
    for shape in shapes:
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str) or not shape["label"]:
            raise BrokenLabels(f"a shape has no label: {str(shape)[:60]}")
        region = _region(shape)
        if region is None:
            detail = f"a {shape.get('shape_type')} has no area; it counts for the picture, not for a place"
            defects.append(Defect(Severity.WARNING, "shape_without_area", file.name, detail))
        found.append((shape["label"], region))
    return Described(
        image=image,
        image_id=image.name,
        where=file.name,
        labels=[str(name) for name, held in flags.items() if held is True],
        shapes=found,
        size=(size[0], size[1]),  # type: ignore[arg-type]
    )


def _region(shape: dict[str, Any]) -> Callable[[int], Region] | None:
    kind, points = shape.get("shape_type", "polygon"), shape.get("points")
    if kind in (None, "polygon"):
        return polygon(points)
    if kind not in ("rectangle", "circle"):
        return None
    if not isinstance(points, list) or len(points) != 2:
        raise BrokenLabels(f"a {kind} has {str(points)[:60]}, not two points")
    (x1, y1), (x2, y2) = ((point[0], point[1]) for point in points)
    if not all(map(is_number, (x1, y1, x2, y2))):
        raise BrokenLabels(f"a {kind} has {str(points)[:60]}, not numbers")
    if kind == "rectangle":
        left, top, right, bottom = min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)
        return lambda label: box_region(label, left, top, right - left, bottom - top)
    radius = math.hypot(x2 - x1, y2 - y1)
    angles = [2 * math.pi * corner / _CIRCLE_CORNERS for corner in range(_CIRCLE_CORNERS)]
    return polygon([[x1 + radius * math.cos(angle), y1 + radius * math.sin(angle)] for angle in angles])
