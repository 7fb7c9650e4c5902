"""How far apart two runs of one network are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.export.runners import Outputs, Runner


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest absolute difference; infinite for other shapes, NaN where there is one."""
    if one.shape != other.shape:
        return math.inf
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def worst(one: float, other: float) -> float:
    """Return the larger; NaN stays, which max() would drop."""
    return other if math.isnan(other) or other > one else one


def non_finite(outputs: Outputs, names: Sequence[str]) -> int:
    """Return how many values of these outputs are not finite."""
    return sum(int((~np.isfinite(outputs[name])).sum()) for name in names)


def batch_difference(run: Runner, images: NDArray[np.uint8], names: Sequence[str]) -> float:
    """Return how much the answer for a picture depends on the company it is in: batch 1 against batch N.

    images: uint8 [N, H, W, 3]; one alone is put beside itself.
    """
    if len(images) == 1:
        images = np.concatenate([images, images])
    together = run(images)
    alone = [run(images[index : index + 1]) for index in range(len(images))]
    largest = 0.0
    for name in names:
        separate = np.concatenate([outputs[name] for outputs in alone])
        largest = worst(largest, difference(together[name], separate))
    return largest


def plain_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain numbers, without curves and without those that had nothing to measure."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
