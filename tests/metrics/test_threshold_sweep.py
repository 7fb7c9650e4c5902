"""The sweep is a count: every point must equal counting anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.threshold_sweep import sweep_thresholds

scored_hits = st.lists(st.tuples(st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()), max_size=30)


@given(rows=scored_hits, missed=st.integers(0, 5), threshold=st.floats(0, 1))
def test_every_point_equals_counting_the_kept_detections(rows, missed, threshold):
    hits = np.array([hit for _, hit in rows], dtype=bool)
    truths = int(hits.sum()) + missed
    point = sweep_thresholds(np.array([score for score, _ in rows]), hits, truths).at(threshold)

    kept = [hit for score, hit in rows if score >= threshold]
    assert (point.true_positives, point.false_positives) == (sum(kept), len(kept) - sum(kept))
    precision = sum(kept) / len(kept) if kept else 0
    recall = sum(kept) / truths if truths else 0
    assert point.precision == pytest.approx(precision)
    assert point.recall == pytest.approx(recall)
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall else 0
    assert point.f1 == pytest.approx(harmonic)


@given(rows=scored_hits)
def test_no_threshold_beats_the_best(rows):
    hits = np.array([hit for _, hit in rows], dtype=bool)
    sweep = sweep_thresholds(np.array([score for score, _ in rows]), hits, int(hits.sum()) + 1)
    best = sweep.best()
    assert all(sweep.at(threshold).f1 <= best.f1 + 1e-12 for threshold in np.linspace(0, 1, 21))
    assert sweep.at(best.score).f1 == best.f1


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 scores came with 1 hits"):
        sweep_thresholds(np.array([0.1, 0.2]), np.array([True]), 1)
