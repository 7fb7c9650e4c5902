"""Cut labelled pictures into square tiles whose labels come from the regions, not from the whole picture.

A tile holds a class if at least `min_area` pixels of one region lie in it, or half of a region that is
smaller. A tile with less than that, but more than nothing, is neither: it is left out and counted.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.core.files import atomic_directory
from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.formats.class_list import FILE_NAME as CLASS_LIST
from shared.data.loading import load_image
from shared.data.rle import encode_rle

REPORT_FILE = "tiles.json"
DESCRIPTION = "tiles cut from labelled pictures"


@dataclass(frozen=True, slots=True)
class TileOptions:
    """How to cut. size, stride: pixels; min_area: pixels of a region that make a tile hold its class.

    clean_per_labelled: at most this many tiles without a class for each with one, chosen by `seed` among all;
    None keeps every tile. unlabelled_as_clean: take pictures without a label file as free of classes.
    """

    size: int = 256
    stride: int = 256
    min_area: int = 100
    clean_per_labelled: float | None = None
    unlabelled_as_clean: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that cut nothing."""
        if self.size < 16 or not 1 <= self.stride <= self.size:
            raise ValueError(
                f"size {self.size} must be 16 pixels or more, and stride {self.stride} from 1 to the size, "
                "so that nothing lies between tiles"
            )
        if not 1 <= self.min_area <= self.size**2:
            raise ValueError(
                f"min_area {self.min_area} must be from 1 to {self.size**2} pixels, the whole tile"
            )
        if self.clean_per_labelled is not None and self.clean_per_labelled <= 0:
            raise ValueError(f"clean_per_labelled {self.clean_per_labelled} must be above 0")


@dataclass(slots=True)
class TileReport:
    """What became of the pictures and tiles; `groups` counts (tiles, tiles with a class) of each group."""

    tiles: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    clean: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    groups: dict[str, list[int]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return plain numbers for JSON."""
        return {
            "tiles": self.tiles,
            "clean": self.clean,
            "classes": dict(self.classes),
            "left_out": dict(self.left_out),
            "groups": {
                name: {"tiles": tiles, "labelled": labelled}
                for name, (tiles, labelled) in sorted(self.groups.items())
            },
        }


@dataclass(frozen=True, slots=True)
class _Tile:
    record: ClassificationRecord
    left: int
    top: int
    labels: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.record.image_path.stem}_{self.left:05d}_{self.top:05d}"

    @property
    def group(self) -> str:
        return self.record.group or self.record.image_id


def plan_tiles(dataset: ClassificationSet, options: TileOptions) -> tuple[list[_Tile], TileReport]:
    """Return the tiles that would be written, and what is left out and why, without reading a pixel.

    Raises ValueError where two pictures' names differ in nothing that tiles are named by.
    """
    report = TileReport()
    records = list(dataset.records)
    if options.unlabelled_as_clean:
        records += dataset.unlabelled
    elif dataset.unlabelled:
        report.left_out["pictures without labels"] = len(dataset.unlabelled)
    tiles: list[_Tile] = []
    for record in records:
        if min(record.width, record.height) < options.size:
            report.left_out["pictures smaller than a tile"] += 1
        elif not record.regions_complete:
            report.left_out["pictures whose labels say no place"] += 1
        else:
            tiles += _cut(record, options, report)
    clash = [name for name, count in Counter(tile.name for tile in tiles).items() if count > 1]
    if clash:
        raise ValueError(f"two pictures would both have tiles named {clash[0]}; rename one of them")
    tiles = _thinned(tiles, options, report)
    for tile in tiles:
        report.classes.update(dataset.class_names[label] for label in tile.labels)
        counts = report.groups.setdefault(tile.group, [0, 0])
        counts[0] += 1
        counts[1] += bool(tile.labels)
    report.tiles = len(tiles)
    report.clean = sum(not tile.labels for tile in tiles)
    return tiles, report


def write_tiles(
    dataset: ClassificationSet,
    out: Path,
    options: TileOptions,
    on_tile: Callable[[], None] | None = None,
) -> TileReport:
    """Write images/*.png, annotations/*.json, classes.txt and tiles.json to the new folder `out`.

    Every tile keeps its picture's group, or the picture's id where it has none, so that a split never divides
    a picture. Appears in one step. Raises FileExistsError if `out` exists, ValueError where no tile is left,
    DatasetUnreadable for a picture that cannot be used.
    """
    tiles, report = plan_tiles(dataset, options)
    if not tiles:
        raise ValueError(f"no tile is left of {dataset.source}: {dict(report.left_out) or 'it is empty'}")
    with atomic_directory(out) as folder:
        (folder / "images").mkdir()
        (folder / "annotations").mkdir()
        (folder / CLASS_LIST).write_text("\n".join(dataset.class_names) + "\n", encoding="utf-8")
        for record, own in _by_picture(tiles):
            image = cv2.cvtColor(load_image(record), cv2.COLOR_RGB2BGR)
            for tile in own:
                part = np.s_[tile.top : tile.top + options.size, tile.left : tile.left + options.size]
                encoded = cv2.imencode(".png", image[part])[1].tobytes()
                (folder / "images" / f"{tile.name}.png").write_bytes(encoded)
                annotation = json.dumps(_annotation(tile, dataset.class_names, options.size), indent=1)
                (folder / "annotations" / f"{tile.name}.json").write_text(annotation, encoding="utf-8")
                if on_tile:
                    on_tile()
        document = {
            "description": DESCRIPTION,
            "source_hash": dataset.content_hash(),
            "options": {name: getattr(options, name) for name in options.__slots__},
            **report.as_dict(),
        }
        (folder / REPORT_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return report


def _cut(record: ClassificationRecord, options: TileOptions, report: TileReport) -> Iterator[_Tile]:
    masks = [(region.label, region.mask(record.height, record.width)) for region in record.regions]
    for top in _starts(record.height, options):
        for left in _starts(record.width, options):
            part = np.s_[top : top + options.size, left : left + options.size]
            inside = [(label, int(mask[part].sum()), int(mask.sum())) for label, mask in masks]
            held = {label for label, area, whole in inside if area >= min(options.min_area, (whole + 1) // 2)}
            touched = {label for label, area, _ in inside if area}
            if touched - held:
                report.left_out["ambiguous tiles"] += 1
            else:
                yield _Tile(record, left, top, tuple(sorted(held)))


def _starts(length: int, options: TileOptions) -> list[int]:
    """Return where tiles begin; the last one ends at the border, overlapping the one before if need be."""
    starts = list(range(0, length - options.size + 1, options.stride))
    if starts[-1] + options.size < length:
        starts.append(length - options.size)
    return starts


def _thinned(tiles: list[_Tile], options: TileOptions, report: TileReport) -> list[_Tile]:
    if options.clean_per_labelled is None:
        return tiles
    clean = [index for index, tile in enumerate(tiles) if not tile.labels]
    wanted = round(options.clean_per_labelled * (len(tiles) - len(clean)))
    if wanted >= len(clean):
        return tiles
    kept = set(np.random.default_rng(options.seed).permutation(clean)[:wanted].tolist())
    report.left_out["clean tiles beyond the wanted share"] = len(clean) - wanted
    return [tile for index, tile in enumerate(tiles) if tile.labels or index in kept]


def _by_picture(tiles: list[_Tile]) -> Iterator[tuple[ClassificationRecord, list[_Tile]]]:
    own: dict[Path, list[_Tile]] = {}
    for tile in tiles:
        own.setdefault(tile.record.image_path, []).append(tile)
    for group in own.values():
        yield group[0].record, group


def _annotation(tile: _Tile, class_names: list[str], size: int) -> dict[str, object]:
    return {
        "image": f"{tile.name}.png",
        "width": size,
        "height": size,
        "labels": [class_names[label] for label in tile.labels],
        "regions": [
            {"label": class_names[region.label], "rle": encode_rle(mask)}
            for region in tile.record.regions
            if (mask := _part(region.mask(tile.record.height, tile.record.width), tile, size)).any()
        ],
        "group": tile.group,
        "source": {"image": tile.record.image_id, "left": tile.left, "top": tile.top},
    }


def _part(mask: NDArray[np.bool_], tile: _Tile, size: int) -> NDArray[np.bool_]:
    return mask[tile.top : tile.top + size, tile.left : tile.left + size]
