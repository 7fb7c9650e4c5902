"""The splits of a classification run: from a split file, as the data came, or stratified."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.config.schema import DataConfig
from shared.data.classification import ClassificationSet, select_classes
from shared.data.dataset import Defect, Severity
from shared.data.duplicates import Look
from shared.data.formats.classification import (
    find_own_splits,
    find_split_file,
    read_classification_set,
)
from shared.data.formats.errors import DatasetUnreadable
from shared.data.leaks import read_looks, refuse_leaks, tie
from shared.data.split_file import read_split_file
from shared.data.splits import Splits, existing_split
from shared.data.stratification import stratify

PARTS = ("train", "val", "test")


def read_classification_splits(
    config: DataConfig, path: Path, class_names: list[str], seed: int, *, check_leaks: bool = True
) -> Splits[ClassificationSet]:
    """Return the sets of one run with the classes `class_names`.

    They come from `config.split_file` if it is given (a relative path is taken from the data's folder, then
    from the current one), else from the data's own division (folders, a CSV each, a splits.json in the
    folder), else by iterative stratification with `config.ratios`. With `check_leaks` every picture is
    decoded once. Each set's `defects` name the classes it lacks, the training set's also what reading brought
    to light.
    Raises ValueError, DatasetUnreadable among them, and OSError: for leaks between splits, a split file for
    other data, a split that is not there, and a training split without any labelled picture.
    """
    parts, cut_off = _parts(config, path, seed, check_leaks)
    parts = {name: _described(select_classes(part, class_names), name) for name, part in parts.items()}
    train = parts["train"]
    if not train.labels().any():
        raise DatasetUnreadable(
            f"no picture of {train.source} holds any of the classes {', '.join(class_names)}, so nothing can "
            "be learned; see `sightline data check`"
        )
    val = train if config.val == config.train else parts["val"]
    return Splits(train, val, parts.get("test"), cut_off)


def stratified_parts(
    dataset: ClassificationSet, ratios: Mapping[str, float], *, seed: int, looks: list[Look]
) -> dict[str, ClassificationSet]:
    """Divide `dataset` by iterative stratification; "no class at all" counts as a class of its own.

    ratios: shares by the part's name, any sum. Equal files, look-alikes and groups stay together. Which
    picture goes where depends on the pictures' bytes, labels, groups and the seed, not on names or order.
    Raises ValueError where there are fewer independent pictures than parts.
    """
    ties = np.array(tie(dataset.records, looks), dtype=np.int64)
    _, group_of = np.unique(ties, return_inverse=True)
    groups = int(group_of.max()) + 1 if len(group_of) else 0
    if groups < len(ratios):
        raise ValueError(
            f"{dataset.source} has {groups} pictures or groups of pictures that may be apart, too few for "
            f"{len(ratios)} splits"
        )
    labels = dataset.labels()
    labels = np.column_stack([labels, ~labels.any(axis=1)])
    counts = np.zeros((groups, labels.shape[1]), np.int64)
    np.add.at(counts, group_of, labels)
    sizes = np.bincount(group_of, minlength=groups)
    keys = [""] * groups  # the smallest digest of its pictures names a group, whatever the files' order
    for group, look in zip(group_of.tolist(), looks, strict=True):
        keys[group] = min(keys[group] or look.digest, look.digest)
    order = np.array(sorted(range(groups), key=lambda group: keys[group]), dtype=np.int64)
    part = np.empty(groups, np.int64)
    part[order] = stratify(counts[order], sizes[order], list(ratios.values()), np.random.default_rng(seed))
    chosen = part[group_of]
    return {
        name: replace(
            dataset,
            records=[record for record, own in zip(dataset.records, chosen, strict=True) if own == number],
            source=f"{dataset.source}, {name}",
            defects=[],
            unlabelled=[],
        )
        for number, name in enumerate(ratios)
    }


def parse_ratios(text: str) -> dict[str, float]:
    """Return the shares of train, val and, with three numbers, test. Raises ValueError for anything else."""
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) not in (2, 3) or not all(0 < share < float("inf") for share in shares):
        raise ValueError(f"ratios {text!r} are not two or three positive shares such as 70,15,15")
    return dict(zip(PARTS, shares, strict=False))


def _parts(
    config: DataConfig, path: Path, seed: int, check_leaks: bool
) -> tuple[dict[str, ClassificationSet], bool]:
    """Return the parts, and whether the validation one was cut off a training one that was there."""
    there = find_own_splits(path, format=config.format)
    beside_data = None if there else find_split_file(path)
    split_file = config.split_file or (beside_data.name if beside_data else None)
    if split_file is None and not there:
        whole = read_classification_set(path, format=config.format)
        parts = stratified_parts(
            whole, parse_ratios(config.ratios), seed=seed, looks=read_looks(whole.records)
        )
        return _with_defects(parts, whole), False
    if split_file is not None:
        parts = _from_split_file(config, split_file, path)
    else:
        parts = dict(_as_divided(config, path, there))
    if check_leaks:
        refuse_leaks(parts, read_looks([record for part in parts.values() for record in part.records]))
    cut_off = "val" not in parts and config.val != config.train
    if cut_off:
        parts |= _held_out(parts["train"], config.val_fraction, seed)
    return parts, cut_off


def _from_split_file(config: DataConfig, split_file: str, path: Path) -> dict[str, ClassificationSet]:
    folder = path if path.is_dir() else path.parent
    places = [folder / split_file, Path(split_file)]
    there = next((place for place in places if place.is_file()), None)
    if there is None:
        raise DatasetUnreadable(
            f"data.split_file={split_file}: no such file, with the data in {folder} or in the current "
            "folder; `sightline data split` makes one"
        )
    file = read_split_file(there)
    whole = read_classification_set(path, format=config.format)
    comparable = whole if whole.class_names == file.class_names else _selected(whole, file.class_names)
    found = file.apply(comparable)
    names = {"train": existing_split(config.train, list(found), "data.train")}
    if config.val is not None:
        names["val"] = existing_split(config.val, list(found), "data.val")
    if config.test in found:
        names["test"] = config.test
    parts = {part: found[name] for part, name in names.items() if part != "val" or name != names["train"]}
    return _with_defects(parts, whole)


def _selected(whole: ClassificationSet, class_names: list[str]) -> ClassificationSet:
    """Select, where possible; otherwise leave it to the split file to say what differs."""
    return select_classes(whole, class_names) if set(class_names) <= set(whole.class_names) else whole


def _as_divided(config: DataConfig, path: Path, there: list[str]) -> Iterator[tuple[str, ClassificationSet]]:
    def read(name: str) -> ClassificationSet:
        return read_classification_set(path, format=config.format, split=name)

    yield "train", read(existing_split(config.train, there, "data.train"))
    if config.val is not None and config.val != config.train:
        yield "val", read(existing_split(config.val, there, "data.val"))
    if config.test in there:
        yield "test", read(config.test)


def _held_out(train: ClassificationSet, fraction: float, seed: int) -> dict[str, ClassificationSet]:
    ratios = {"train": 1 - fraction, "val": fraction}
    parts = stratified_parts(train, ratios, seed=seed, looks=read_looks(train.records))
    return _with_defects(parts, train)


def _with_defects(
    parts: dict[str, ClassificationSet], whole: ClassificationSet
) -> dict[str, ClassificationSet]:
    """Carry what reading the whole brought to light to the training set, so that it is told once."""
    return parts | {"train": replace(parts["train"], defects=list(whole.defects))}


def _described(part: ClassificationSet, name: str) -> ClassificationSet:
    absent = [
        class_name
        for class_name, count in zip(part.class_names, part.class_counts(), strict=True)
        if count == 0
    ]
    notes = [
        Defect(Severity.WARNING, "class_absent", name, f"no picture of {name} holds class {class_name!r}")
        for class_name in absent
    ]
    return replace(part, defects=[*part.defects, *notes])
