"""How far apart two runs of one network are."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.export.runners import Inputs, Outputs, Runner


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


def batch_difference(run: Runner, inputs: Inputs, names: Sequence[str]) -> float:
    """Return how much an answer depends on the company it is in: batch 1 against batch N.

    inputs: each with N first; one alone is put beside itself.
    """
    count = len(next(iter(inputs.values())))
    if count == 1:
        inputs, count = {name: np.concatenate([one, one]) for name, one in inputs.items()}, 2
    together = run(inputs)
    alone = [run({name: each[index : index + 1] for name, each in inputs.items()}) for index in range(count)]
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
