"""One JSON file per picture: images/<name>.jpg and annotations/<name>.json.

    {
      "image": "0001.jpg",                      file name in images/; default: the JSON file's own name
      "width": 1600, "height": 256,             optional, checked against the picture
      "labels": ["scratch", "pit"],             classes the picture holds; [] where it holds none
      "regions": [                              optional: where they are
        {"label": "pit", "polygon": [[x, y], ...]},
        {"label": "pit", "bbox": [left, top, width, height]},
        {"label": "pit", "rle": "1 3 257 3"}    1-based, column-major, as Severstal's
      ],
      "group": "specimen-7"                     optional: what may not be divided between splits
    }

`labels` or `regions` must be there; a class that only regions name counts as held. Also read, as other tools
write them: a map {"scratch": true, ...} in `labels`; `file_name` or `imagePath` for `image`;
`class` or `category` for `label`; `points` for `polygon`; COCO's `segmentation`, a list of flat polygons or
uncompressed {"counts": [...], "size": [height, width]}. Classes are those of a classes.txt beside images/, or
all that occur. Splits: images/<split>/ and annotations/<split>/, or <split>/images and <split>/annotations.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

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
from shared.data.formats.split_names import alternatives
from shared.data.picture_size import IMAGE_SUFFIXES, list_pictures
from shared.data.regions import Region, RunRegion, box_region
from shared.data.rle import BrokenRle, parse_rle

_LOOKED_AT = 5  # files that say what a folder is
_LARGEST_FILE = 16 * 2**20  # bytes of one picture's labels

MakeRegion = Callable[[int], Region]


def recognises(path: Path) -> bool:
    """Say whether `path` is a folder with images/ and annotations/ whose first JSON file is of this kind."""
    for _, annotations in _folders(path).values():
        for file in sorted(annotations.glob("*.json"))[:_LOOKED_AT]:
            if file.stat().st_size > _LARGEST_FILE:
                return False  # one file for many pictures: COCO's
            try:
                document = load_object(file)
            except BrokenLabels:
                continue  # another one may show what it is
            return not {"shapes", "images"} & set(document) and bool({"labels", "regions"} & set(document))
    return False


def splits(path: Path) -> list[str]:
    """Name the splits; empty when the data is not divided."""
    return [name for name in _folders(path) if name]


def read(path: Path, split: str | None, images_dir: Path | None) -> ClassificationSet:
    """Read one split. Raises DatasetUnreadable where nothing can be read."""
    images, annotations = _choose(path, split)
    images = images_dir or images
    files = sorted(annotations.glob("*.json"))
    if not files:
        raise DatasetUnreadable(f"{annotations} holds no JSON files; expected one per picture")
    pictures = {picture.stem: picture for picture in list_pictures(images)}
    defects: list[Defect] = []
    described: list[Described] = []
    distrusted: set[Path] = set()
    for file in files:
        try:
            described.append(_describe(file, images, pictures))
        except (BrokenLabels, BrokenRle) as error:
            if file.stem in pictures:
                distrusted.add(pictures[file.stem])
            detail = f"{error}; the picture is left out"
            defects.append(Defect(Severity.ERROR, "unreadable_labels", file.name, detail))
    named = {entry.image for entry in described} | distrusted
    unlabelled = [picture for picture in pictures.values() if picture not in named]
    return build_set(described, unlabelled, _class_names(path), str(annotations), defects)


def _folders(path: Path) -> dict[str, tuple[Path, Path]]:
    """Map split names ("" for undivided data) to (images, annotations)."""
    images, annotations = path / "images", path / "annotations"
    if images.is_dir() and annotations.is_dir():
        inner = sorted(folder.name for folder in annotations.iterdir() if folder.is_dir())
        return {name: (images / name, annotations / name) for name in inner if (images / name).is_dir()} or {
            "": (images, annotations)
        }
    if not path.is_dir():
        return {}
    return {
        folder.name: (folder / "images", folder / "annotations")
        for folder in sorted(path.iterdir())
        if (folder / "images").is_dir() and (folder / "annotations").is_dir()
    }


def _choose(path: Path, split: str | None) -> tuple[Path, Path]:
    folders = _folders(path)
    if not folders:
        raise DatasetUnreadable(f"{path} has no images/ beside annotations/")
    if split is None:
        if len(folders) > 1:
            raise DatasetUnreadable(f"{path} holds the splits {', '.join(folders)}; say which one to read")
        return next(iter(folders.values()))
    for name in alternatives(split):
        if name in folders:
            return folders[name]
    known = ", ".join(filter(None, folders)) or "none, its data is not divided"
    raise DatasetUnreadable(f"{path} has no split {split!r}; it has {known}")


def _class_names(path: Path) -> list[str] | None:
    """Return the listed classes, or for divided data all that occur in any split, so that splits agree."""
    listed = read_class_list(path)
    folders = _folders(path)
    if listed is not None or len(folders) < 2:
        return listed
    names: set[str] = set()
    for images, annotations in folders.values():
        for file in annotations.glob("*.json"):
            try:
                entry = _describe(file, images, {})
            except (BrokenLabels, BrokenRle):
                continue  # reported where its split is read
            names.update(entry.labels, (name for name, _ in entry.shapes))
    return sorted(names) or None


def _describe(file: Path, images: Path, pictures: dict[str, Path]) -> Described:
    document = load_object(file)
    labels, regions = document.get("labels"), document.get("regions")
    if labels is None and regions is None:
        raise BrokenLabels("it has neither 'labels' nor 'regions'; write \"labels\": [] for none")
    if isinstance(labels, dict) and all(isinstance(held, bool) for held in labels.values()):
        labels = [name for name, held in labels.items() if held]
    labels = [] if labels is None else labels
    if not isinstance(labels, list) or not all(isinstance(name, str) and name for name in labels):
        raise BrokenLabels(f"labels is {str(labels)[:60]}, not a list of class names")
    if regions is not None and not (
        isinstance(regions, list) and all(isinstance(region, dict) for region in regions)
    ):
        raise BrokenLabels(f"regions is {str(regions)[:60]}, not a list of objects")
    group = document.get("group")
    if group is not None and not isinstance(group, str | int):
        raise BrokenLabels(f"group is {group!r}, not a name")
    return Described(
        image=_image(document, file, images, pictures),
        image_id=_image_name(document, file, pictures),
        where=file.name,
        labels=list(labels),
        shapes=[_shape(region) for region in regions or []],
        size=_size(document),
        group=None if group is None else str(group),
    )


def _image_name(document: dict[str, Any], file: Path, pictures: dict[str, Path]) -> str:
    named = next((document[key] for key in ("image", "imagePath", "file_name") if key in document), None)
    if named is None:
        return pictures[file.stem].name if file.stem in pictures else file.stem
    pure = PurePosixPath(str(named).replace("\\", "/"))
    if pure.suffix.lower() not in IMAGE_SUFFIXES or pure.is_absolute() or "\0" in str(named):
        raise BrokenLabels(f"image is {named!r}, not a picture's file name")
    return pure.name


def _image(document: dict[str, Any], file: Path, images: Path, pictures: dict[str, Path]) -> Path:
    return images / _image_name(document, file, pictures)


def _size(document: dict[str, Any]) -> tuple[int, int] | None:
    height, width = (document.get(key, document.get(f"image{key.title()}")) for key in ("height", "width"))
    if height is None and width is None:
        return None
    if not (isinstance(height, int) and isinstance(width, int) and min(height, width) > 0):
        raise BrokenLabels(f"height and width are {height!r} and {width!r}, not numbers of pixels")
    return height, width


def _shape(region: dict[str, Any]) -> tuple[str, MakeRegion]:
    name = next((region[key] for key in ("label", "class", "category") if key in region), None)
    if not isinstance(name, str) or not name:
        raise BrokenLabels(f"a region's label is {name!r}, not a class name")
    if "rle" in region:
        runs = parse_rle(str(region["rle"]))
        if len(runs) == 0:
            raise BrokenLabels("a region's rle is empty")
        return name, lambda label: RunRegion(label, runs)
    if "bbox" in region:
        return name, _box(region["bbox"])
    for key in ("polygon", "points"):
        if key in region:
            return name, polygon(region[key])
    if "segmentation" in region:
        return name, _segmentation(region["segmentation"])
    raise BrokenLabels(f"a region of {name!r} has none of rle, bbox, polygon")


def _box(bbox: object) -> MakeRegion:
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)) or min(bbox[2:]) <= 0:
        raise BrokenLabels(f"bbox {str(bbox)[:60]} is not [left, top, width, height] in pixels")
    left, top, width, height = (float(value) for value in bbox)
    return lambda label: box_region(label, left, top, width, height)


def _segmentation(value: object) -> MakeRegion:
    """COCO's: one flat polygon in a list, or uncompressed counts of alternating 0s and 1s, column-major."""
    if isinstance(value, dict) and isinstance(value.get("counts"), list):
        counts = value["counts"]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise BrokenLabels("counts must be whole numbers from 0 up")
        ends = np.cumsum(np.array(counts, np.int64))
        runs = np.array(
            [(ends[i - 1] + 1, counts[i]) for i in range(1, len(counts), 2) if counts[i]], np.int64
        ).reshape(-1, 2)
        if len(runs) == 0:
            raise BrokenLabels("a region's counts hold no pixel")
        return lambda label: RunRegion(label, runs)
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        flat = value[0]
        return polygon([list(pair) for pair in zip(flat[::2], flat[1::2], strict=len(flat) % 2 == 0)])
    raise BrokenLabels("segmentation is neither one flat polygon nor uncompressed counts")
