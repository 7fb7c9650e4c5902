"""Precision, recall and F1 as functions of the score threshold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What happens when detections of at least this score are kept; rates in 0..1, 0 where undefined."""

    score: float
    true_positives: int
    false_positives: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ThresholdSweep:
    """Cumulative counts at every distinct score, scores falling; `truths` boxes were there to find."""

    scores: NDArray[np.float64]
    true_positives: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    truths: int

    def at(self, score_threshold: float) -> OperatingPoint:
        """The point for detections with score >= score_threshold."""
        kept = int((self.scores >= score_threshold).sum())
        if kept == 0:
            return _point(score_threshold, 0, 0, self.truths)
        tp, fp = int(self.true_positives[kept - 1]), int(self.false_positives[kept - 1])
        return _point(score_threshold, tp, fp, self.truths)

    def best(self) -> OperatingPoint:
        """The point of highest F1; of equal ones that of the highest score. Score 1 if nothing was found."""
        if len(self.scores) == 0:
            return _point(1.0, 0, 0, self.truths)
        return self.at(float(self.scores[int(np.argmax(self.curve()["f1"]))]))

    def curve(self) -> dict[str, NDArray[np.float64]]:
        """precision, recall, f1 and score, one value per distinct score, scores falling."""
        tp, fp = self.true_positives.astype(float), self.false_positives.astype(float)
        return {
            "precision": tp / np.maximum(tp + fp, 1),
            "recall": tp / max(self.truths, 1),
            "f1": 2 * tp / np.maximum(tp + fp + self.truths, 1),
            "score": self.scores,
        }


def sweep_thresholds(scores: NDArray[np.float64], hits: NDArray[np.bool_], truths: int) -> ThresholdSweep:
    """From each detection's score [D] and whether it found a truth box [D]. ValueError if lengths differ."""
    if len(scores) != len(hits):
        raise ValueError(f"{len(scores)} scores came with {len(hits)} hits")
    order = np.argsort(-scores, kind="stable")
    scores, hits = scores[order], hits[order]
    last_of_score = np.flatnonzero(np.append(np.diff(scores) != 0, True)) if len(scores) else np.zeros(0, int)
    found = np.cumsum(hits)[last_of_score]
    return ThresholdSweep(scores[last_of_score], found, last_of_score + 1 - found, truths)


def _point(score: float, tp: int, fp: int, truths: int) -> OperatingPoint:
    return OperatingPoint(
        score=score,
        true_positives=tp,
        false_positives=fp,
        precision=tp / max(tp + fp, 1),
        recall=tp / max(truths, 1),
        f1=2 * tp / max(tp + fp + truths, 1),
    )
