"""How well one label's scores rank its pictures, whatever the threshold (specs/components.md section 15)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.metrics.threshold_sweep import ThresholdSweep, sweep_thresholds


def label_sweep(scores: NDArray[np.floating[Any]], labels: NDArray[np.bool_]) -> ThresholdSweep:
    """Counts at every distinct score of one label; scores [N], labels bool [N]."""
    return sweep_thresholds(scores.astype(np.float64), labels, int(labels.sum()))


def average_precision(scores: NDArray[np.floating[Any]], labels: NDArray[np.bool_]) -> float | None:
    """Step-wise area under precision over recall, Σ (R_n − R_{n−1}) · P_n over distinct scores, falling.

    None without a positive.
    """
    if not labels.any():
        return None
    curve = label_sweep(scores, labels).curve()
    return float(np.sum(np.diff(curve["recall"], prepend=0.0) * curve["precision"]))


def auroc(scores: NDArray[np.floating[Any]], labels: NDArray[np.bool_]) -> float | None:
    """Chance that a positive scores above a negative, a tie counting half; None unless both are there."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    sweep = label_sweep(scores, labels)
    found = np.concatenate([[0], sweep.true_positives])
    # Of the positives at each score those above count whole against its negatives and those at it half.
    above = (found[:-1] + found[1:]) / 2
    return float(np.sum(above * np.diff(sweep.false_positives, prepend=0)) / (positives * negatives))


def best_f1_threshold(scores: NDArray[np.floating[Any]], labels: NDArray[np.bool_]) -> float:
    """Threshold of highest F1 when scores of at least it count as positive; scores in 0..1.

    Every threshold between two neighbouring scores answers alike. Of the best ones this is the nearest to
    0.5: 0.5 itself if it lies among them, else the middle between the two scores, which is as far as can be
    from either. 0.5 without a positive.
    """
    if not labels.any():
        return 0.5
    sweep = label_sweep(scores, labels)
    f1 = sweep.curve()["f1"]
    best = np.flatnonzero(f1 == f1.max())
    upper = sweep.scores[best]
    lower = np.append(sweep.scores, 0.0)[best + 1]
    thresholds = np.where((lower < 0.5) & (upper >= 0.5), 0.5, (lower + upper) / 2)
    # Two neighbouring floats have their middle at one of them, which may be the wrong one.
    thresholds = np.where(thresholds > lower, thresholds, upper)
    return float(thresholds[np.argmin(np.abs(thresholds - 0.5))])
