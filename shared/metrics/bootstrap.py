"""How far a number would move with other pictures of the same kind (Efron 1979, percentile interval)."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def bootstrap_interval(
    statistic: Callable[..., float | None],
    *arrays: NDArray[Any],
    groups: Sequence[Any] | NDArray[Any] | None = None,
    repeats: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """The (low, high) between which `level` of the statistic's values on resampled rows lie.

    arrays: one row per picture each; statistic(*rows) -> a number, or None where it has no value (an AUROC
    of rows that hold one class); such resamples are left out. groups: one value per row; rows of equal value
    are drawn together, as what comes from one specimen says less than independent pictures would.

    ValueError for arrays of different lengths, without rows, with fewer than two groups, or if more than
    half of the resamples have no value.
    """
    if not arrays or len({len(array) for array in arrays}) != 1:
        raise ValueError(f"arrays have {[len(array) for array in arrays]} rows; they need the same number")
    rows = len(arrays[0])
    if groups is not None and len(groups) != rows:
        raise ValueError(f"{len(groups)} groups came for {rows} rows")
    if not 0 < level < 1 or repeats < 1:
        raise ValueError(f"level {level} lies in 0..1 and repeats {repeats} is at least 1")
    units = _units(rows, groups)
    if len(units) < 2:
        raise ValueError(f"an interval needs at least two rows or groups, and there are {len(units)}")

    random = np.random.default_rng(seed)
    values = []
    for _ in range(repeats):
        drawn = np.concatenate([units[unit] for unit in random.integers(len(units), size=len(units))])
        value = statistic(*(array[drawn] for array in arrays))
        if value is not None:
            values.append(float(value))
    if 2 * len(values) < repeats:
        raise ValueError(
            f"the statistic has a value on {len(values)} of {repeats} resamples only:"
            " too few rows or groups of one kind for an interval"
        )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _units(rows: int, groups: Sequence[Any] | NDArray[Any] | None) -> list[NDArray[np.int64]]:
    """Row numbers of each thing that is drawn."""
    if groups is None:
        return list(np.arange(rows).reshape(-1, 1))
    _, unit_of = np.unique(np.asarray(groups), return_inverse=True)
    return [np.flatnonzero(unit_of == unit) for unit in range(int(unit_of.max(initial=-1)) + 1)]
