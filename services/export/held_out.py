"""A run's data: held-out for the gate, training pictures for calibration, as its network sees them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.export.problems import IncompleteRun
from services.export.runs import Run
from shared.data.classification import ClassificationRecord
from shared.data.dataset import DetectionRecord
from shared.data.formats import DatasetUnreadable
from shared.data.loading import load_image
from shared.vision.letterbox import Letterbox, letterbox

HELD_OUT_PICTURES = 200

R = TypeVar("R", DetectionRecord, ClassificationRecord)
S = TypeVar("S")


class LabelledSet(Protocol):
    """Labelled pictures or recordings of any task."""

    @property
    def records(self) -> list[Any]: ...

    def __len__(self) -> int: ...

    def content_hash(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Picture(Generic[R]):
    """One labelled picture. pixels: letterboxed uint8 [H, W, 3]; geometry leads back to the source's."""

    pixels: NDArray[np.uint8]
    geometry: Letterbox
    record: R


def load_picture(record: R, size: tuple[int, int]) -> Picture[R]:
    """Read, decode and letterbox one picture the way the detector does. Raises IncompleteRun."""
    try:
        image = load_image(record)
    except DatasetUnreadable as error:
        raise IncompleteRun(f"{error}; restore the data that the run was trained on") from error
    pixels, geometry = letterbox(image, size)
    return Picture(pixels, geometry, record)


def spread(records: Sequence[S], count: int) -> list[S]:
    """Return at most `count` records, evenly spaced, so that every scene of a sorted set has its share."""
    if len(records) <= count:
        return list(records)
    return [records[index] for index in np.linspace(0, len(records) - 1, count).round().astype(int)]


def batches(records: Sequence[R], size: tuple[int, int], batch: int) -> Iterator[list[Picture[R]]]:
    """Yield the records' pictures, `batch` at a time, so that memory does not grow with the data set."""
    for start in range(0, len(records), batch):
        yield [load_picture(record, size) for record in records[start : start + batch]]


def load_splits(
    run: Run, data_root: Path, read_sets: Callable[[Run, Path], tuple[LabelledSet, LabelledSet]]
) -> tuple[LabelledSet, LabelledSet]:
    """Return the sets that the run was trained on and judged by, as its config names them.

    A relative path is taken from `data_root`. Raises IncompleteRun where the data is gone, or is not what
    the run's metrics.json says it was: what it was trained on could then pass for held out.
    """
    path = data_root / run.config.data.path
    try:
        train, val = read_sets(run, path)
        found = val.content_hash()
    except (ValueError, OSError) as error:  # DatasetUnreadable is a ValueError
        raise IncompleteRun(
            f"the data of run {run.run_id} cannot be read: {error}. Put it back, or set SIGHTLINE_DATA_ROOT",
            run=run.run_id,
        ) from error
    expected = run.data_hashes.get("val", found)
    if found != expected:
        raise IncompleteRun(
            f"the held-out part of {path} has changed since run {run.run_id} was trained (content hash "
            f"{found}, was {expected}); restore it, or train again",
            run=run.run_id,
        )
    return train, val
