"""Multi-label numbers against hand calculation, scipy and torchmetrics' implementation."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as reference
from scipy.stats import mannwhitneyu

from shared.metrics.multilabel import MultilabelEvaluator, tune_thresholds
from shared.metrics.ranking import auroc, average_precision, best_f1_threshold

NAMES = ["pit", "scratch", "patch"]
# Three classes, four pictures; the last holds nothing.
LABELS = np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
PROBABILITIES = np.array([[0.9, 0.2, 0.6], [0.4, 0.7, 0.8], [0.6, 0.1, 0.7], [0.1, 0.3, 0.2]])


def judged(probabilities=PROBABILITIES, labels=LABELS, thresholds=(0.5, 0.5, 0.5), names=NAMES):
    evaluator = MultilabelEvaluator(names)
    evaluator.add(probabilities, labels)
    return evaluator.compute(thresholds)


def test_counts_and_rates_of_a_class_equal_hand_calculation():
    pit = judged()["per_class"]["pit"]
    assert (pit["tp"], pit["fp"], pit["fn"], pit["tn"], pit["support"]) == (1, 1, 1, 1, 2)
    assert (pit["precision"], pit["recall"], pit["f1"], pit["threshold"]) == (0.5, 0.5, 0.5, 0.5)
    assert pit["ap"] == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)  # found at rank 1 and 3
    assert pit["auroc"] == 3 / 4  # of four pairs only (0.4, 0.6) is the wrong way round


def test_averages_equal_hand_calculation():
    numbers = judged()
    # F1: pit 1/2, scratch 1, patch 2·2/(2·2 + 1 + 0) = 4/5; sums: tp 4, fp 2, fn 1
    assert numbers["macro_f1"] == pytest.approx((1 / 2 + 1 + 4 / 5) / 3)
    assert numbers["micro_f1"] == pytest.approx(8 / 11)
    assert numbers["weighted_f1"] == pytest.approx((2 * 1 / 2 + 1 * 1 + 2 * 4 / 5) / 5)
    assert numbers["micro_precision"] == pytest.approx(4 / 6)
    assert numbers["micro_recall"] == pytest.approx(4 / 5)
    assert numbers["macro_precision"] == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    assert numbers["macro_recall"] == pytest.approx((1 / 2 + 1 + 1) / 3)
    # Per picture: 2·2/4, 2·1/(2 + 1 + 1), 2·1/(2 + 1), and 0/0 that counts 0
    assert numbers["samples_f1"] == pytest.approx((1 + 1 / 2 + 2 / 3 + 0) / 4)
    assert numbers["label_accuracy"] == pytest.approx(9 / 12)
    assert numbers["hamming_loss"] == pytest.approx(3 / 12)
    assert numbers["exact_match"] == 2 / 4
    assert numbers["undefined"] == {"precision": 0, "recall": 0, "f1": 0, "samples_f1": 1}


def test_predicting_nothing_scores_what_the_severstal_counts_say():
    # specs/defects.md: 897 + 247 + 5,150 + 801 = 7,095 labels, 5,902 of 12,568 pictures without any
    labels = np.zeros((12_568, 4), bool)
    with_defects = 12_568 - 5_902
    start = 0
    for index, count in enumerate((897, 247, 5_150, 801)):
        labels[(start + np.arange(count)) % with_defects, index] = True  # every such picture at least once
        start += count
    numbers = judged(np.zeros((12_568, 4)), labels, 0.5, list("1234"))
    assert numbers["empty_label_accuracy"] == pytest.approx(1 - 7_095 / (4 * 12_568))
    assert numbers["empty_label_accuracy"] == pytest.approx(0.859, abs=5e-4)
    assert numbers["empty_exact_match"] == pytest.approx(5_902 / 12_568)
    # and the zero predictions here are that answer
    assert numbers["label_accuracy"] == numbers["empty_label_accuracy"]
    assert numbers["exact_match"] == numbers["empty_exact_match"]
    assert numbers["macro_f1"] == 0
    assert numbers["undefined"]["precision"] == 4


@pytest.mark.parametrize("seed", range(3))
def test_a_random_set_equals_torchmetrics(seed):
    random = np.random.default_rng(seed)
    # Two decimals make many ties.
    p = random.random((300, 4)).round(2)
    y = random.random((300, 4)) < np.array([0.5, 0.2, 0.05, 0.3])
    p = np.where(y, np.sqrt(p).round(2), p)
    numbers = judged(p, y, 0.4, list("abcd"))

    # Its thresholds are strict: 0.4 itself must count.
    predictions, truth = torch.from_numpy((p >= 0.4).astype(np.int64)), torch.from_numpy(y.astype(np.int64))
    scores = torch.from_numpy(p)
    for average in ("macro", "micro", "weighted"):
        expected = reference.multilabel_f1_score(predictions, truth, 4, average=average).item()
        assert numbers[f"{average}_f1"] == pytest.approx(expected, abs=1e-6)
    for average in ("macro", "micro"):
        for name, function in (
            ("precision", reference.multilabel_precision),
            ("recall", reference.multilabel_recall),
        ):
            expected = function(predictions, truth, 4, average=average).item()
            assert numbers[f"{average}_{name}"] == pytest.approx(expected, abs=1e-6)
    per_class = numbers["per_class"].values()
    aps = reference.multilabel_average_precision(scores, truth, 4, average="none")
    assert [row["ap"] for row in per_class] == pytest.approx(aps.tolist(), abs=1e-6)
    assert numbers["map"] == pytest.approx(aps.mean().item(), abs=1e-6)
    aurocs = reference.multilabel_auroc(scores, truth, 4, average="none")
    assert [row["auroc"] for row in per_class] == pytest.approx(aurocs.tolist(), abs=1e-6)
    assert numbers["macro_auroc"] == pytest.approx(aurocs.mean().item(), abs=1e-6)
    hamming = reference.multilabel_hamming_distance(predictions, truth, 4).item()
    assert numbers["hamming_loss"] == pytest.approx(hamming, abs=1e-6)
    match = reference.multilabel_exact_match(predictions, truth, 4).item()
    assert numbers["exact_match"] == pytest.approx(match, abs=1e-6)


def test_auroc_equals_the_mann_whitney_statistic_ties_included():
    random = np.random.default_rng(5)
    scores, labels = random.integers(0, 6, 80) / 5, random.random(80) < 0.3
    expected = mannwhitneyu(scores[labels], scores[~labels]).statistic / (labels.sum() * (~labels).sum())
    assert auroc(scores, labels) == pytest.approx(expected)


def test_equal_scores_rank_nothing():
    labels = np.array([True, False, False, False])
    assert auroc(np.full(4, 0.3), labels) == 0.5
    assert average_precision(np.full(4, 0.3), labels) == 0.25


def test_an_absent_class_has_no_ap_and_no_auroc_and_is_left_out_of_their_means():
    labels = LABELS.copy()
    labels[:, 1] = False
    numbers = judged(labels=labels)
    scratch = numbers["per_class"]["scratch"]
    assert (scratch["ap"], scratch["auroc"], scratch["support"]) == (None, None, 0)
    others = [numbers["per_class"][name] for name in ("pit", "patch")]
    assert numbers["map"] == pytest.approx(np.mean([row["ap"] for row in others]))
    assert numbers["macro_auroc"] == pytest.approx(np.mean([row["auroc"] for row in others]))
    assert (scratch["recall"], numbers["undefined"]["recall"]) == (0.0, 1)


def test_a_class_in_every_picture_has_ap_but_no_auroc():
    numbers = judged(np.array([[0.2], [0.8]]), np.ones((2, 1), bool), 0.5, ["pit"])
    assert (numbers["map"], numbers["macro_auroc"]) == (1.0, None)


def test_a_set_without_labels_has_no_map_and_the_rest_is_zero_and_counted():
    numbers = judged(np.full((3, 2), 0.1), np.zeros((3, 2), bool), 0.5, ["a", "b"])
    assert (numbers["map"], numbers["macro_auroc"], numbers["weighted_f1"]) == (None, None, 0.0)
    assert numbers["exact_match"] == 1.0
    assert numbers["undefined"] == {"precision": 2, "recall": 2, "f1": 2, "samples_f1": 3}


def test_batches_count_as_one_set():
    evaluator = MultilabelEvaluator(NAMES)
    for row in range(4):
        evaluator.add(PROBABILITIES[row : row + 1].astype(np.float32), LABELS[row : row + 1].astype(float))
    assert evaluator.compute(0.45)["macro_f1"] == judged(thresholds=0.45)["macro_f1"]


def test_each_class_has_its_own_threshold_and_a_probability_at_it_counts():
    numbers = judged(thresholds=[0.4, 0.7, 0.9])
    assert numbers["per_class"]["pit"]["tp"] == 2
    assert numbers["per_class"]["scratch"]["tp"] == 1
    assert numbers["per_class"]["patch"]["tp"] == 0


def test_a_curve_has_one_point_per_distinct_probability():
    curve = judged()["curves"]["pit"]
    assert curve["score"].tolist() == [0.9, 0.6, 0.4, 0.1]
    assert curve["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 1 / 2])
    assert curve["recall"].tolist() == [0.5, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.zeros((2, 2)), np.zeros((2, 3)), r"\[N, 3\]"),
        (np.zeros((2, 3)), np.zeros((3, 3)), r"\[N, 3\]"),
        (np.full((2, 3), np.nan), np.zeros((2, 3)), "NaN"),
        (np.full((2, 3), 3.2), np.zeros((2, 3)), "logits need a sigmoid"),
        (np.zeros((2, 3)), np.full((2, 3), 2), "0 or 1"),
    ],
)
def test_what_cannot_be_judged_is_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        MultilabelEvaluator(NAMES).add(probabilities, labels)


def test_nothing_added_is_refused():
    with pytest.raises(ValueError, match="no pictures"):
        MultilabelEvaluator(NAMES).compute(0.5)


def test_a_tuned_threshold_reaches_the_highest_f1_that_any_threshold_reaches():
    random = np.random.default_rng(3)
    p, y = random.random((60, 3)).round(2), random.random((60, 3)) < 0.3
    tuned = tune_thresholds(p, y)
    at_tuned = judged(p, y, tuned)["per_class"]
    for index, name in enumerate(NAMES):
        tried = [judged(p, y, step / 500)["per_class"][name]["f1"] for step in range(501)]
        assert at_tuned[name]["f1"] == pytest.approx(max(tried))
        assert 0 < tuned[index] <= 1


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [
        ([0.9, 0.8, 0.1], [1, 1, 0], 0.5),  # every threshold in (0.1, 0.8] is perfect
        ([0.4, 0.3, 0.1], [1, 0, 0], 0.35),  # in (0.3, 0.4]: the middle
        ([0.9, 0.7, 0.6], [1, 0, 0], 0.8),
        # F1 2/3 both in (0.8, 0.9] and in (0.1, 0.4]: the middle of the latter is nearer to 0.5
        ([0.9, 0.8, 0.7, 0.4, 0.1], [1, 0, 0, 1, 0], 0.25),
        ([0.9, 0.2], [0, 0], 0.5),  # absent
        ([0.3, 0.2], [1, 1], 0.1),  # everything is positive
    ],
)
def test_of_equally_good_thresholds_the_one_nearest_a_half_is_chosen(scores, labels, expected):
    assert best_f1_threshold(np.array(scores), np.array(labels, bool)) == pytest.approx(expected)


def test_a_threshold_between_neighbouring_floats_still_parts_them():
    low = np.float64(0.7)
    high = np.nextafter(low, 1)
    assert best_f1_threshold(np.array([high, low]), np.array([True, False])) == high
