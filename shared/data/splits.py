"""Divide a set into training and validation, the same way every time."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from shared.config.schema import DataConfig
from shared.core.files import sha256_file
from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.formats import find_splits, read_detection_set
from shared.data.formats.split_names import alternatives

SetT = TypeVar("SetT")


@dataclass(frozen=True)
class Splits(Generic[SetT]):
    """The sets of one run; `test` is None where the data has none, `cut_off` where val came out of train."""

    train: SetT
    val: SetT
    test: SetT | None
    cut_off: bool


def read_splits(config: DataConfig, path: Path, class_names: list[str], seed: int) -> Splits[DetectionSet]:
    """Read the splits that `config` names from `path`, keeping the boxes of `class_names`.

    A data set that is not divided, or a config without a validation split, has `val_fraction` of the training
    pictures held out (seeded; copies stay together). Raises ValueError, DatasetUnreadable among them, and
    OSError; a split that is not there under any of its names is answered with those that are.
    """
    there = find_splits(path, format=config.format)

    def read(split: str | None) -> DetectionSet:
        return read_detection_set(path, format=config.format, split=split, class_names=class_names)

    train = read(existing_split(config.train, there, "data.train") if there else None)
    test = read(config.test) if config.test in there else None
    if config.val == config.train:
        return Splits(train, train, test, cut_off=False)
    if config.val is None or not there:
        train, val = split_detection_set(train, config.val_fraction, seed=seed)
        return Splits(train, val, test, cut_off=True)
    return Splits(train, read(existing_split(config.val, there, "data.val")), test, cut_off=False)


def existing_split(split: str, there: list[str], key: str) -> str:
    """Return the name in `there` that `split` goes by; raises ValueError, naming those, where it has none."""
    found = next((name for name in alternatives(split) if name in there), None)
    if found is None:
        hint = " (or data.val=null to hold some training images out)" if key == "data.val" else ""
        raise ValueError(f"there is no split {split!r}; set {key} to one of {', '.join(there)}{hint}")
    return found


def split_detection_set(
    dataset: DetectionSet, val_fraction: float, *, seed: int = 0
) -> tuple[DetectionSet, DetectionSet]:
    """Return (training set, validation set); about `val_fraction` (0..1) of the pictures go to the second.

    Copies of one picture (equal bytes) stay on one side. Which side depends on the picture's bytes and the
    seed, not on names or order. Each side gets one group of copies at least; raises ValueError where the
    fraction is not between 0 and 1 or there is only one different picture.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, got {val_fraction}")
    copies: dict[str, list[DetectionRecord]] = defaultdict(list)
    for record in dataset.records:
        copies[sha256_file(record.image_path)].append(record)
    if len(copies) < 2:
        raise ValueError(
            f"{dataset.source} has {len(copies)} different pictures; at least 2 are needed to split"
        )
    shuffled = sorted(copies, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())
    wanted = max(1, round(val_fraction * len(dataset)))
    chosen: set[str] = set()
    count = 0
    for digest in shuffled[:-1]:
        if count >= wanted:
            break
        chosen.add(digest)
        count += len(copies[digest])
    in_val = {id(record) for digest in chosen for record in copies[digest]}
    train = [record for record in dataset.records if id(record) not in in_val]
    val = [record for record in dataset.records if id(record) in in_val]
    return replace(dataset, records=train), replace(dataset, records=val)
