"""Which labelled images a run trains on, judges by and is finally measured with."""

from collections import Counter
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
        raise DataUnusable(str(error) or "the images do not fit into memory; use data.cache=none") from error


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
    _tell(config, path, splits, log)
    for name, part in (("training", splits.train), ("validation", splits.val)):
        if not len(part):
            raise DataUnusable(f"the {name} split of {path} holds no image")
        if all(record.ignore.all() for record in part.records):
            raise DataUnusable(f"no {name} image of {path} holds a box of {', '.join(class_names)}")
    return splits


def _tell(config: DataConfig, path: Path, splits: Splits, log: Callable[[str], None]) -> None:
    """Say what was decided or left out on the way, so that nothing happens silently."""
    if splits.cut_off:
        log(f"holding out {len(splits.val)} of {len(splits.train) + len(splits.val)} images for validation")
    if config.test is not None and splits.test is None:
        log(f"there is no split {config.test!r}: the final numbers are those of the validation split")
    read = {"training": splits.train, "validation": splits.val, "test": splits.test}
    if splits.cut_off or splits.val is splits.train:
        del read["validation"]  # of one reading with training
    for name, part in read.items():
        if part is not None and part.defects:
            codes = Counter(defect.code for defect in part.defects)
            found = ", ".join(f"{count} {code}" for code, count in codes.most_common())
            log(f"{name} data left out or repaired: {found}; `sightline data check {path}` names each")
