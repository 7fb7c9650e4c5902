"""A run's pictures as its network sees them: held-out ones for the gate, training ones for calibration."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.export.problems import IncompleteRun
from services.export.runs import Run
from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.formats import DatasetUnreadable
from shared.data.loading import load_image
from shared.data.splits import read_splits
from shared.vision.letterbox import Letterbox, letterbox


@dataclass(frozen=True, slots=True)
class Picture:
    """One labelled picture. pixels: letterboxed uint8 [H, W, 3]; geometry leads back to the source's."""

    pixels: NDArray[np.uint8]
    geometry: Letterbox
    record: DetectionRecord


def load_picture(record: DetectionRecord, size: tuple[int, int]) -> Picture:
    """Read, decode and letterbox one picture the way the detector does. Raises IncompleteRun."""
    try:
        image = load_image(record)
    except DatasetUnreadable as error:
        raise IncompleteRun(f"{error}; restore the data that the run was trained on") from error
    pixels, geometry = letterbox(image, size)
    return Picture(pixels, geometry, record)


def spread(records: Sequence[DetectionRecord], count: int) -> list[DetectionRecord]:
    """Return at most `count` records, evenly spaced, so that every scene of a sorted set has its share."""
    if len(records) <= count:
        return list(records)
    return [records[index] for index in np.linspace(0, len(records) - 1, count).round().astype(int)]


def batches(records: Sequence[DetectionRecord], size: tuple[int, int], batch: int) -> Iterator[list[Picture]]:
    """Yield the records' pictures, `batch` at a time, so that memory does not grow with the data set."""
    for start in range(0, len(records), batch):
        yield [load_picture(record, size) for record in records[start : start + batch]]


def load_splits(run: Run, data_root: Path) -> tuple[DetectionSet, DetectionSet]:
    """Return the sets that the run was trained on and judged by, as its config names them.

    A relative path is taken from `data_root`. Raises IncompleteRun where the data is gone, or is not what
    the run's metrics.json says it was: pictures it was trained on could then pass for held-out ones.
    """
    config, path = run.config.data, data_root / run.config.data.path
    try:
        splits = read_splits(config, path, run.labels, run.config.seed)
        found = splits.val.content_hash()
    except (ValueError, OSError) as error:  # DatasetUnreadable is a ValueError
        raise IncompleteRun(
            f"the data of run {run.run_id} cannot be read: {error}. Put it back, or set SIGHTLINE_DATA_ROOT",
            run=run.run_id,
        ) from error
    expected = run.data_hashes.get("val", found)
    if found != expected:
        raise IncompleteRun(
            f"the held-out pictures of {path} have changed since run {run.run_id} was trained (content hash "
            f"{found}, was {expected}); restore them, or train again",
            run=run.run_id,
        )
    return splits.train, splits.val
