"""Choose a reader of classification sets by name or by what lies at the path."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from shared.data.classification import ClassificationSet, select_classes
from shared.data.formats import labelme, labels_json, severstal
from shared.data.formats.errors import DatasetUnreadable
from shared.data.formats.split_names import alternatives
from shared.data.split_file import SPLIT_FILE_NAME, read_split_file


class ClassificationReader(Protocol):
    """A module that reads one format."""

    def recognises(self, path: Path) -> bool:
        """Say whether what lies at `path` looks like this format."""

    def splits(self, path: Path) -> list[str]:
        """Name the splits found at `path`; empty when the data is not divided."""

    def read(self, path: Path, split: str | None, images_dir: Path | None) -> ClassificationSet:
        """Read one split."""


CLASSIFICATION_READERS: Mapping[str, ClassificationReader] = {
    "severstal": severstal,
    "labels_json": labels_json,
    "labelme": labelme,
}


def detect_classification_format(path: Path) -> str | None:
    """Return the name of the classification format at `path`, or None where no reader knows it."""
    return next((name for name, reader in CLASSIFICATION_READERS.items() if reader.recognises(path)), None)


def find_classification_splits(path: Path, *, format: str = "auto") -> list[str]:  # noqa: A002
    """Return the names of the splits at `path`; empty if undivided.

    They are the format's own (folders, a CSV each), or else the parts of a splits.json in the folder.
    """
    own = find_own_splits(path, format=format)
    file = find_split_file(path)
    return own or (list(read_split_file(file).parts) if file else [])


def find_own_splits(path: Path, *, format: str = "auto") -> list[str]:  # noqa: A002
    """Return the splits that the format itself knows, without a splits.json."""
    return _reader(path, format).splits(path)


def read_classification_set(
    path: Path,
    *,
    format: str = "auto",  # noqa: A002 - the word users know
    split: str | None = None,
    class_names: list[str] | None = None,
    images_dir: Path | None = None,
) -> ClassificationSet:
    """Read pictures with class labels from Severstal's CSV, per-picture JSON files or labelme files.

    split: "train", "val", ... as `find_classification_splits` names them; None reads everything where the
    data is undivided or divided by a splits.json. class_names: keep only these classes, numbered in this
    order; pictures without any stay. images_dir: where the pictures lie, if not in a usual place. Labels that
    had to be left out or repaired are in the result's `defects`. Raises DatasetUnreadable with what is wrong
    and what would be right.
    """
    reader = _reader(path, format)
    file = find_split_file(path)
    if split is not None and file is not None and not reader.splits(path):
        whole = reader.read(path, None, images_dir)
        parts = read_split_file(file).apply(whole)
        name = next((name for name in alternatives(split) if name in parts), None)
        if name is None:
            raise DatasetUnreadable(f"{file} has no part {split!r}; it has {', '.join(parts)}")
        dataset = parts[name]
    else:
        dataset = reader.read(path, split, images_dir)
    return dataset if class_names is None else select_classes(dataset, class_names)


def find_split_file(path: Path) -> Path | None:
    """Return the splits.json that lies with the data, if any."""
    file = (path if path.is_dir() else path.parent) / SPLIT_FILE_NAME
    return file if file.is_file() else None


def _reader(path: Path, name: str) -> ClassificationReader:
    if not path.exists():
        raise DatasetUnreadable(f"{path} does not exist")
    if name == "auto":
        found = detect_classification_format(path)
        if found is None:
            raise DatasetUnreadable(
                f"cannot tell the format of {path}: expected a train.csv in Severstal's layout, a folder "
                "with images/ and annotations/ (one JSON file per picture), or labelme JSON files"
            )
        return CLASSIFICATION_READERS[found]
    if name not in CLASSIFICATION_READERS:
        known = ", ".join(CLASSIFICATION_READERS)
        raise DatasetUnreadable(f"{name!r} is no format of class labels; those are {known} and auto")
    return CLASSIFICATION_READERS[name]
