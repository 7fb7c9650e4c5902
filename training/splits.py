"""Which labelled images a run trains on, judges by and is finally measured with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.config import DataConfig
from shared.data.formats import DatasetUnreadable
from shared.data.splits import Splits, read_splits
from training.errors import DataUnusable


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
    """Read the splits that `config` names, as `shared.data.splits.read_splits` does.

    Raises DataUnusable, also where there is nothing to train on or to judge by.
    """
    try:
        splits = read_splits(config, path, class_names, seed)
    except (ValueError, OSError) as error:  # DatasetUnreadable is a ValueError
        raise DataUnusable(str(error)) from error
    if splits.cut_off:
        log(f"holding out {len(splits.val)} of {len(splits.train) + len(splits.val)} images for validation")
    for name, part in (("training", splits.train), ("validation", splits.val)):
        if not len(part):
            raise DataUnusable(f"the {name} split of {path} holds no image")
    if not any(len(record.boxes) for record in splits.train.records):
        raise DataUnusable(f"no training image of {path} holds a box of {', '.join(class_names)}")
    return splits
