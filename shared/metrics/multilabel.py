"""Multi-label classification: any number of labels per picture (specs/components.md section 15)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.metrics.ranking import auroc, average_precision, best_f1_threshold, label_sweep


class MultilabelEvaluator:
    """Collects probabilities and labels of a data set, and judges them at given thresholds."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self.class_names = list(class_names)
        self._probabilities: list[NDArray[np.float64]] = []
        self._labels: list[NDArray[np.bool_]] = []

    def add(self, probabilities: ArrayLike, labels: ArrayLike) -> None:
        """Add a batch: probabilities float [N, C] in 0..1, labels bool (or 0 and 1) [N, C].

        ValueError for other shapes, for NaN, and for values outside 0..1.
        """
        p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels)
        wanted = f"[N, {len(self.class_names)}]"
        if p.ndim != 2 or p.shape[1] != len(self.class_names) or y.shape != p.shape:
            raise ValueError(f"probabilities {p.shape} and labels {y.shape} must both be {wanted}")
        if not ((p >= 0) & (p <= 1)).all():  # comparisons with NaN are false
            raise ValueError("a probability is NaN or outside 0..1; logits need a sigmoid first")
        if y.dtype != np.bool_ and not np.isin(y, (0, 1)).all():
            raise ValueError("labels are 0 or 1")
        self._probabilities.append(p)
        self._labels.append(y.astype(np.bool_))

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Everything added so far, [N, C]."""
        return np.concatenate([np.zeros((0, len(self.class_names))), *self._probabilities])

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Everything added so far, [N, C]."""
        return np.concatenate([np.zeros((0, len(self.class_names)), bool), *self._labels])

    def compute(self, thresholds: ArrayLike) -> dict[str, Any]:
        """Every number at `thresholds` float [C] (or one for all); a label is given from its threshold on.

        Scalars in 0..1: {macro,micro,weighted,samples}_f1, {macro,micro}_{precision,recall}, map,
        macro_auroc, label_accuracy, exact_match, hamming_loss, and what predicting nothing would score:
        empty_label_accuracy, empty_exact_match.

        per_class: {name: precision recall f1 ap auroc support tp fp fn tn threshold}. curves: {name:
        precision recall f1 score}, float arrays over the distinct probabilities, falling.

        0/0 is 0, as in scikit-learn, and "undefined" counts how often: precision, recall and f1 of classes,
        samples_f1 of pictures that hold nothing and were given nothing. What cannot be said without a
        positive (ap, auroc) or a negative (auroc) is None, and left out of map and macro_auroc.

        ValueError if nothing was added.
        """
        p, y = self.probabilities, self.labels
        if len(p) == 0:
            raise ValueError("no pictures were added: there is nothing to judge")
        tau = np.broadcast_to(np.asarray(thresholds, dtype=np.float64), (len(self.class_names),))
        given = p >= tau
        tp, fp = (given & y).sum(axis=0), (given & ~y).sum(axis=0)
        fn, tn = (~given & y).sum(axis=0), (~given & ~y).sum(axis=0)

        precision, recall, f1 = _ratio(tp, tp + fp), _ratio(tp, tp + fn), _ratio(2 * tp, 2 * tp + fp + fn)
        aps = [average_precision(p[:, c], y[:, c]) for c in range(len(tau))]
        aurocs = [auroc(p[:, c], y[:, c]) for c in range(len(tau))]
        agreed = given == y
        samples_tp, samples_all = (given & y).sum(axis=1), given.sum(axis=1) + y.sum(axis=1)

        return {
            "macro_f1": float(f1.mean()),
            "micro_f1": float(_ratio(2 * tp.sum(), 2 * tp.sum() + fp.sum() + fn.sum())),
            "weighted_f1": float(_ratio((f1 * (tp + fn)).sum(), (tp + fn).sum())),
            "samples_f1": float(_ratio(2 * samples_tp, samples_all).mean()),
            "macro_precision": float(precision.mean()),
            "macro_recall": float(recall.mean()),
            "micro_precision": float(_ratio(tp.sum(), (tp + fp).sum())),
            "micro_recall": float(_ratio(tp.sum(), (tp + fn).sum())),
            "map": _mean_of_defined(aps),
            "macro_auroc": _mean_of_defined(aurocs),
            "label_accuracy": float(agreed.mean()),
            "exact_match": float(agreed.all(axis=1).mean()),
            "hamming_loss": float(1.0 - agreed.mean()),
            "empty_label_accuracy": float(1.0 - y.mean()),
            "empty_exact_match": float((~y).all(axis=1).mean()),
            "undefined": {
                "precision": int((tp + fp == 0).sum()),
                "recall": int((tp + fn == 0).sum()),
                "f1": int((2 * tp + fp + fn == 0).sum()),
                "samples_f1": int((samples_all == 0).sum()),
            },
            "per_class": {
                name: {
                    "precision": float(precision[c]),
                    "recall": float(recall[c]),
                    "f1": float(f1[c]),
                    "ap": aps[c],
                    "auroc": aurocs[c],
                    "support": int(tp[c] + fn[c]),
                    "tp": int(tp[c]),
                    "fp": int(fp[c]),
                    "fn": int(fn[c]),
                    "tn": int(tn[c]),
                    "threshold": float(tau[c]),
                }
                for c, name in enumerate(self.class_names)
            },
            "curves": {
                name: label_sweep(p[:, c], y[:, c]).curve() for c, name in enumerate(self.class_names)
            },
        }


def tune_thresholds(probabilities: ArrayLike, labels: ArrayLike) -> NDArray[np.float64]:
    """Per class the threshold of highest F1, [C]; see best_f1_threshold. For the validation split only.

    probabilities float [N, C] in 0..1, labels bool [N, C].
    """
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(labels).astype(np.bool_)
    if p.ndim != 2 or p.shape != y.shape:
        raise ValueError(f"probabilities {p.shape} and labels {y.shape} must both be [N, C]")
    return np.array([best_f1_threshold(p[:, c], y[:, c]) for c in range(p.shape[1])])


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> NDArray[np.float64]:
    """Divide elementwise; 0/0 is 0."""
    numerator, denominator = np.asarray(numerator, dtype=np.float64), np.asarray(denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def _mean_of_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
