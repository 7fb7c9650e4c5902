"""Which labelled images a run trains on, judges by and is finally measured with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.config import DataConfig
from shared.data.dataset import DetectionSet
from shared.data.formats import DatasetUnreadable, find_splits, read_detection_set
from shared.data.splits import split_detection_set
from training.errors import DataUnusable


@dataclass
class Splits:
    """The sets of one run; `test` is None where the data has none."""

    train: DetectionSet
    val: DetectionSet
    test: DetectionSet | None


@contextmanager
def usable_data() -> Iterator[None]:
    """Turn what a data set raises while its images are read into DataUnusable; also a decorator."""
    try:
        yield
    except (DatasetUnreadable, MemoryError) as error:
        raise DataUnusable(str(error)) from error


def load_splits(
    config: DataConfig, path: Path, class_names: list[str], seed: int, log: Callable[[str], None]
) -> Splits:
    """Read the splits that `config` names from `path`, keeping the boxes of `class_names`.

    A data set that is not divided, or a config without a validation split, has `val_fraction` of the training
    images held out (seeded; duplicates stay together). Raises DataUnusable with what there is instead.
    """
    try:
        there = find_splits(path, format=config.format)

        def read(split: str | None) -> DetectionSet:
            return read_detection_set(path, format=config.format, split=split, class_names=class_names)

        train = read(_existing(config.train, there, "data.train") if there else None)
        if config.val is not None and (there or config.val == config.train):
            val = train if config.val == config.train else read(_existing(config.val, there, "data.val"))
        else:
            log(f"holding out {config.val_fraction:.0%} of {len(train)} images for validation")
            train, val = split_detection_set(train, config.val_fraction, seed=seed)
        test = read(config.test) if config.test in there else None
    except (ValueError, OSError) as error:  # DatasetUnreadable is a ValueError
        raise DataUnusable(str(error)) from error
    for name, part in (("training", train), ("validation", val)):
        if not len(part):
            raise DataUnusable(f"the {name} split of {path} holds no image")
    if not any(len(record.boxes) for record in train.records):
        raise DataUnusable(f"no training image of {path} holds a box of {', '.join(class_names)}")
    return Splits(train, val, test)


def _existing(split: str, there: list[str], key: str) -> str:
    if split not in there:
        hint = " (or data.val=null to hold some training images out)" if key == "data.val" else ""
        raise DataUnusable(f"there is no split {split!r}; set {key} to one of {', '.join(there)}{hint}")
    return split
