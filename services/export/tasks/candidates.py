"""Candidates of a detector, in pictures or streams, from two runs of one network."""

import math

import numpy as np

from services.export.runners import Outputs

# Candidates of nearly equal score may change places between two runtimes; they are compared as a set.
SAME_SCORE = 1e-3


def box_difference(expected: Outputs, found: Outputs, index: int) -> tuple[float, int]:
    """Return the largest distance (pixels) of a reference candidate to its own box, and how many there were.

    A candidate's own box is the nearest among those with nearly its score and its label. The last ones are
    left out: near the end of the top k, a candidate of nearly equal score may stand for it. index: which of
    the batch.
    """
    scores, boxes, labels = (expected[name][index] for name in ("scores", "boxes", "labels"))
    counted = np.flatnonzero(scores > scores[-1] + SAME_SCORE) if len(scores) else np.zeros(0, np.int64)
    farthest = 0.0
    for candidate in counted:
        like = np.abs(found["scores"][index] - scores[candidate]) <= SAME_SCORE
        like &= found["labels"][index] == labels[candidate]
        distances = np.abs(found["boxes"][index][like] - boxes[candidate]).max(axis=1)
        farthest = max(farthest, float(distances.min(initial=math.inf)))
    return farthest, len(counted)
