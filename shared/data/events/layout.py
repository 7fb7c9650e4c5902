"""Find recordings and their labels in a folder: eTraM, Gen1, 1 megapixel, or anything named alike.

A recording `<name>_td.<suffix>` has its labels in `<name>_bbox.npy` beside it; eTraM keeps those of eight
classes in folders `eight_class_annotations_<split>`. The split stands in a folder's name or at the start of
the file's name: `train/`, `train_h5_1/`, `train_day_0001_td.h5`. Components spec, section 16.
"""

from dataclasses import dataclass
from pathlib import Path

from shared.data.events.recording import SUFFIXES
from shared.data.events.repairs import RecordingUnreadable

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
                "test": "test", "testing": "test"}  # fmt: skip
_ENDINGS = ("_td.dat.h5", *(f"_td{suffix}" for suffix in SUFFIXES), *SUFFIXES)
_EIGHT_CLASSES = "eight_class_annotations_"


@dataclass(frozen=True, slots=True)
class FoundRecording:
    """One recording: its sequence's `name`, split (train, val, test), file, and labels or None."""

    name: str
    split: str
    path: Path
    labels: Path | None


def find_recordings(
    source: Path, *, split: str | None = None, eight_classes: bool = False
) -> list[FoundRecording]:
    """Return every recording under `source`, or `source` itself, by split and name.

    split: the split of those that do not say theirs. eight_classes: where `source` holds eTraM's folders with
    eight classes, take the labels from there, never those of three beside the recordings. Raises
    RecordingUnreadable where there is no recording, one has no split, or two have one name in one split.
    """
    if source.is_file():
        paths, root = [source], source.parent
    else:
        root = source
        paths = sorted(
            path
            for path in source.rglob("*")
            if path.name.lower().endswith(SUFFIXES)
            and path.is_file()
            and not _is_output(path.relative_to(root))
        )
    if not paths:
        raise RecordingUnreadable(f"{source} holds no recording; recordings end in {', '.join(SUFFIXES)}")
    eight = (
        {path.name: path for path in sorted(root.rglob(f"{_EIGHT_CLASSES}*/**/*.npy"))}
        if eight_classes
        else {}
    )
    found: dict[tuple[str, str], FoundRecording] = {}
    for path in paths:
        name = sequence_name(path)
        own_split = _split_of(path.relative_to(root)) or split
        if own_split is None:
            raise RecordingUnreadable(
                f"{path} does not say its split in its name or folder; give it with --split"
            )
        labels = eight.get(f"{name}_bbox.npy") if eight else path.with_name(f"{name}_bbox.npy")
        key = (own_split, name)
        if key in found:
            raise RecordingUnreadable(f"{path} and {found[key].path} would both become {own_split}/{name}")
        found[key] = FoundRecording(name, own_split, path, labels if labels and labels.is_file() else None)
    return [found[key] for key in sorted(found, key=lambda key: (SPLITS.index(key[0]), key[1]))]


def sequence_name(path: Path) -> str:
    """The file's name without what only says its format: `a_td.dat` and `a_td.dat.h5` are `a`."""
    lower = path.name.lower()
    ending = next(ending for ending in (*_ENDINGS, path.suffix.lower()) if lower.endswith(ending))
    return path.name[: len(path.name) - len(ending)]


def _split_of(path: Path) -> str | None:
    for part in reversed(path.parts):
        words = part.lower().replace("-", "_").replace(".", "_").split("_")
        if words[0] in _SPLIT_NAMES:
            return _SPLIT_NAMES[words[0]]
    return None


def _is_output(path: Path) -> bool:
    return "event_representations_v2" in path.parts or any(part.startswith(".") for part in path.parts)
