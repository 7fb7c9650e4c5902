"""How far a classifier's numbers would move with other pictures, and what a constant answer scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.metrics.bootstrap import bootstrap_interval
from shared.metrics.ranking import auroc

REPEATS = 1000
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Answers:
    """A split's pictures: probabilities float [N, C], labels bool [N, C], and per picture what belongs
    together, such as a specimen, or None."""

    probabilities: NDArray[np.float32]
    labels: NDArray[np.bool_]
    groups: Sequence[str | None]


def intervals(answers: Answers, thresholds: Sequence[float]) -> dict[str, Any]:
    """Return bootstrap intervals of macro-F1 and macro-AUROC, and the macro-F1 of giving every label always.

    Pictures of one group are drawn together, since they say less than as many independent ones. An interval
    is [low, high], or None where the pictures are too few or of one kind, with why in "notes".
    """
    probabilities, labels, groups = answers.probabilities, answers.labels, answers.groups
    given = probabilities >= np.asarray(thresholds)
    grouped = [str(number) if group is None else f"group {group}" for number, group in enumerate(groups)]
    found: dict[str, Any] = {
        "level": LEVEL,
        "repeats": REPEATS,
        "drawn": "groups" if any(group is not None for group in groups) else "images",
        "units": len(set(grouped)),
        "constant_macro_f1": float(np.mean(_f1(np.ones_like(labels), labels))),
        "notes": [],
    }
    for name, statistic, judged in (
        ("macro_f1", _macro_f1, given),
        ("macro_auroc", _macro_auroc, probabilities),
    ):
        try:
            low, high = bootstrap_interval(
                statistic, judged, labels, groups=grouped, repeats=REPEATS, level=LEVEL
            )
            found[name] = [low, high]
        except ValueError as error:
            found[name] = None
            found["notes"].append(f"{name}: {error}")
    return found


def _f1(given: NDArray[np.bool_], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """F1 of each class [C]; 0 where nothing was there and nothing given."""
    total = given.sum(axis=0) + labels.sum(axis=0)
    return np.divide(2 * (given & labels).sum(axis=0), total, out=np.zeros(len(total)), where=total > 0)


def _macro_f1(given: NDArray[np.bool_], labels: NDArray[np.bool_]) -> float:
    return float(_f1(given, labels).mean())


def _macro_auroc(probabilities: NDArray[np.float32], labels: NDArray[np.bool_]) -> float | None:
    """Mean over the classes that have both kinds of pictures; None where none has."""
    values = [auroc(scores, held) for scores, held in zip(probabilities.T, labels.T, strict=True)]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
