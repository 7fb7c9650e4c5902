"""Intervals beside a classifier's numbers, and what a constant answer scores."""

import numpy as np
import pytest

from training.tasks.classification_intervals import Answers, intervals


def answers(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels [count, 2] that agree often, not always."""
    rng = np.random.default_rng(seed)
    labels = rng.random((count, 2)) < (0.5, 0.2)
    return np.clip(0.3 + 0.4 * labels + rng.normal(0, 0.25, labels.shape), 0, 1).astype(np.float32), labels


def macro_f1(given: np.ndarray, labels: np.ndarray) -> float:
    return np.mean([2 * (g & y).sum() / (g.sum() + y.sum()) for g, y in zip(given.T, labels.T, strict=True)])


def test_the_interval_holds_the_number_and_narrows_with_more_pictures() -> None:
    widths = []
    for count in (60, 960):
        probabilities, labels = answers(count)
        found = intervals(Answers(probabilities, labels, [None] * count), [0.5, 0.5])
        low, high = found["macro_f1"]
        assert low < macro_f1(probabilities >= 0.5, labels) < high
        assert 0.5 < found["macro_auroc"][0] < found["macro_auroc"][1] <= 1
        assert (found["drawn"], found["units"], found["notes"]) == ("images", count, [])
        widths.append(high - low)
    assert widths[1] < widths[0] / 2  # a sixteenth of the variance


def test_pictures_of_one_group_are_drawn_together_and_say_less() -> None:
    probabilities, labels = answers(40)
    copies = 10
    many = np.repeat(probabilities, copies, axis=0), np.repeat(labels, copies, axis=0)
    groups = [f"specimen {number}" for number in range(40) for _ in range(copies)]
    together = intervals(Answers(*many, groups), [0.5, 0.5])
    apart = intervals(Answers(*many, [None] * len(groups)), [0.5, 0.5])
    assert (together["drawn"], together["units"]) == ("groups", 40)
    assert np.diff(together["macro_f1"]) > 2 * np.diff(apart["macro_f1"])


def test_a_constant_answer_scores_what_the_shares_say() -> None:
    labels = np.array([[True, False], [True, False], [False, True], [False, False]])
    found = intervals(Answers(np.full((4, 2), 0.5, np.float32), labels, [None] * 4), [0.5, 0.5])
    # Giving both labels always: 2·2 / (4 + 2) and 2·1 / (4 + 1).
    assert found["constant_macro_f1"] == pytest.approx((4 / 6 + 2 / 5) / 2)


def test_what_cannot_be_drawn_is_left_out_with_the_reason() -> None:
    probabilities, labels = answers(6)
    found = intervals(Answers(probabilities, labels, ["one specimen"] * 6), [0.5, 0.5])
    assert found["macro_f1"] is None
    assert found["macro_auroc"] is None
    assert [note.split(":")[0] for note in found["notes"]] == ["macro_f1", "macro_auroc"]
