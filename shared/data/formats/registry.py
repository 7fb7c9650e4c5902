"""Choose a reader by name or by what lies at the path."""

from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.formats import coco, yolo
from shared.data.formats.errors import DatasetUnreadable

__all__ = ["READERS", "DatasetUnreadable", "detect_format", "find_splits", "read_detection_set"]


class Reader(Protocol):
    """A module that reads one format."""

    def recognises(self, path: Path) -> bool:
        """Say whether what lies at `path` looks like this format."""

    def splits(self, path: Path) -> list[str]:
        """Name the splits found at `path`; empty when the data is not divided."""

    def read(self, path: Path, split: str | None, images_dir: Path | None) -> DetectionSet:
        """Read one split."""


READERS: dict[str, Reader] = {"coco": coco, "yolo": yolo}


def detect_format(path: Path) -> str:
    """Return the name of the format at `path`.

    Raises DatasetUnreadable if the path does not exist or no reader knows it.
    """
    if not path.exists():
        raise DatasetUnreadable(f"{path} does not exist")
    for name, reader in READERS.items():
        if reader.recognises(path):
            return name
    raise DatasetUnreadable(
        f"cannot tell the format of {path}: expected a COCO JSON file, a folder with annotations/*.json, "
        "a YOLO data.yaml, or a folder with images/ and labels/; for class labels Severstal's train.csv, "
        "images/ with annotations/ (a JSON file per picture), or labelme files"
    )


def find_splits(path: Path, *, format: str = "auto") -> list[str]:  # noqa: A002 - the word users know
    """Return the names of the splits at `path`, for instance ["test", "train", "val"]; empty if undivided."""
    return _reader(path, format).splits(path)


def read_detection_set(
    path: Path,
    *,
    format: str = "auto",  # noqa: A002 - the word users know
    split: str | None = None,
    class_names: list[str] | None = None,
    images_dir: Path | None = None,
) -> DetectionSet:
    """Read labelled pictures from a COCO JSON file, a COCO folder, a YOLO data.yaml or a YOLO folder.

    split: "train", "val", ... where the path holds several. class_names: keep only boxes of these classes,
    numbered in this order; pictures without any stay, as background. images_dir: where the pictures lie, if
    not in a usual place. Labels that had to be left out or repaired are in the result's `defects`.
    Raises DatasetUnreadable with what is wrong and what would be right.
    """
    dataset = _reader(path, format).read(path, split, images_dir)
    return dataset if class_names is None else select_classes(dataset, class_names)


def select_classes(dataset: DetectionSet, class_names: list[str]) -> DetectionSet:
    """Return the set with only the boxes of `class_names`, numbered in that order.

    Where the set only numbers its classes, `class_names` name them in that order: the first is class 0.
    Raises DatasetUnreadable for a class that the set does not have.
    """
    if not dataset.classes_named:
        known = class_names + dataset.class_names[len(class_names) :]
        dataset = replace(dataset, class_names=known, classes_named=True)
    unknown = [name for name in class_names if name not in dataset.class_names]
    if unknown:
        raise DatasetUnreadable(
            f"{dataset.source} has no class {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(dataset.class_names)}"
        )
    new_index = np.full(len(dataset.class_names), -1, dtype=np.int64)
    for index, name in enumerate(class_names):
        new_index[dataset.class_names.index(name)] = index
    return replace(
        dataset,
        records=[_relabel(record, new_index) for record in dataset.records],
        class_names=list(class_names),
    )


def _relabel(record: DetectionRecord, new_index: np.ndarray) -> DetectionRecord:
    labels = new_index[record.labels]
    kept = labels >= 0
    return replace(record, boxes=record.boxes[kept], labels=labels[kept], ignore=record.ignore[kept])


def _reader(path: Path, name: str) -> Reader:
    if name == "auto":
        return READERS[detect_format(path)]
    if name not in READERS:
        raise DatasetUnreadable(f"unknown format {name!r}; known are {', '.join(READERS)} and auto")
    if not path.exists():
        raise DatasetUnreadable(f"{path} does not exist")
    return READERS[name]
