"""Which labelled images a run trains on, judges by and is finally measured with."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from shared.config import DataConfig
from shared.data.formats import DatasetUnreadable
from shared.data.splits import Splits
from shared.families.family import Family
from training.errors import DataUnusable
from training.tasks.task import TrainingTask


@contextmanager
def usable_data() -> Iterator[None]:
    """Turn what a data set raises while its images are read into DataUnusable; also a decorator."""
    try:
        yield
    except (DatasetUnreadable, MemoryError) as error:
        raise DataUnusable(str(error) or "the images do not fit into memory; use data.cache=none") from error


def load_splits(
    task: TrainingTask,
    config: DataConfig,
    path: Path,
    family: Family,
    model_config: Any,
    seed: int,
    log: Callable[[str], None],
) -> Splits[Any]:
    """Read the splits that `config` names, as the task does.

    Raises DataUnusable, also where there is nothing to train on or to judge by.
    """
    try:
        splits: Splits[Any] = task.read_splits(config, path, family, model_config, seed)
    except (ValueError, OSError) as error:  # DatasetUnreadable is a ValueError
        raise DataUnusable(str(error)) from error
    _tell(task, config, path, splits, log)
    for name, part in (("training", splits.train), ("validation", splits.val)):
        if not len(part):
            raise DataUnusable(f"the {name} split of {path} holds no {task.parts}")
    task.check_splits(splits, path, log)
    return splits


def _tell(
    task: TrainingTask, config: DataConfig, path: Path, splits: Splits[Any], log: Callable[[str], None]
) -> None:
    """Say what was decided or left out on the way, so that nothing happens silently."""
    if splits.cut_off:
        whole = len(splits.train) + len(splits.val)
        log(f"holding out {len(splits.val)} of {whole} {task.parts} for validation")
    if config.test is not None and splits.test is None:
        log(f"there is no split {config.test!r}: the final numbers are those of the validation split")
    read = {"training": splits.train, "validation": splits.val, "test": splits.test}
    if splits.cut_off or splits.val is splits.train:
        del read["validation"]  # of one reading with training
    for name, part in read.items():
        if part is not None and part.defects:
            codes = Counter(defect.code for defect in part.defects if defect.code not in task.told)
            if not codes:
                continue
            found = ", ".join(f"{count} {code}" for code, count in codes.most_common())
            log(f"{name} data left out or repaired: {found}; {task.data_hint.format(path=path)}")
