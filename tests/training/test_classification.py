"""Numbers, thresholds and examples of classifiers whose answers are known beforehand."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.splits import Splits
from shared.families.family import ClassificationFamily
from training.tasks.classification import ClassificationTask
from training.tasks.classification_evaluation import EvaluationBatch

TASK = ClassificationTask()
FAMILY = ClassificationFamily(
    name="fixed",
    task="classification",
    config=None,
    build=None,
    decode=lambda config, logits: logits,  # the network below answers probabilities
    class_names=lambda config: ["a", "b"],
    input_size=lambda config: (2, 2),
    build_loss=None,
)


class Answers(nn.Module):
    """A network that answers the next rows of a table."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)
        self.asked = 0

    def forward(self, images):
        assert not self.training
        first, self.asked = self.asked, self.asked + len(images)
        return self.rows[first : self.asked]


def record(number, labels):
    return ClassificationRecord(Path(f"{number}.png"), 2, 2, np.array(labels, bool), str(number))


def evaluation(rows, labels, *, batch=2, losses=(1.0,), **arguments):
    records = [record(number, row) for number, row in enumerate(labels)]
    batches = [
        EvaluationBatch(
            torch.zeros((len(part), 2, 2, 3), dtype=torch.uint8),
            part,
            torch.tensor(np.stack([r.labels for r in part]), dtype=torch.float32),
        )
        for part in (records[start : start + batch] for start in range(0, len(records), batch))
    ]
    told = iter(losses * len(batches))
    return TASK.evaluate(
        FAMILY,
        None,
        Answers(rows),
        lambda logits, labels: {"loss": torch.tensor(next(told))},
        batches,
        device=torch.device("cpu"),
        autocast=nullcontext,
        channels_last=False,
        after_batch=lambda: None,
        **arguments,
    )


LABELS = [[1, 0], [1, 0], [0, 1], [0, 0], [0, 0]]
# Class a is told apart between 0.2 and 0.3 alone, class b never.
ROWS = [[0.4, 0.1], [0.3, 0.9], [0.2, 0.1], [0.1, 0.8], [0.0, 0.7]]


def test_thresholds_are_those_of_this_split_where_none_are_given():
    found = evaluation(ROWS, LABELS)
    assert 0.2 < found.thresholds[0] <= 0.3
    assert found.per_class["a"]["f1"] == 1
    assert found.numbers["macro_f1_at_0.5"] == pytest.approx(0)  # 0.4 is below, and every b is wrong


def test_given_thresholds_are_kept():
    found = evaluation(ROWS, LABELS, thresholds=[0.35, 0.5])
    assert found.thresholds == [0.35, 0.5]
    a, b = found.per_class["a"], found.per_class["b"]
    assert (a["tp"], a["fn"], a["fp"]) == (1, 1, 0)
    assert (b["tp"], b["fn"], b["fp"]) == (0, 1, 3)
    assert found.numbers["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)


def test_beside_every_accuracy_stands_the_score_of_predicting_nothing():
    numbers = evaluation(ROWS, LABELS, thresholds=[0.25, 1.0]).numbers
    assert (numbers["label_accuracy"], numbers["empty_label_accuracy"]) == pytest.approx((0.9, 0.7))
    assert (numbers["exact_match"], numbers["empty_exact_match"]) == pytest.approx((0.8, 0.4))


def test_the_loss_is_the_mean_over_pictures_not_over_batches():
    assert evaluation(ROWS, LABELS, batch=4, losses=(1.0, 6.0)).numbers["loss"] == pytest.approx(2.0)


def test_examples_show_every_class_and_none_in_turn():
    labels = [[0, 0]] * 5 + [[1, 0]] * 3 + [[0, 1]]
    shown = evaluation([[0.1, 0.1]] * 9, labels, examples=4).examples
    assert [r.image_id for r, _ in shown] == ["0", "5", "6", "8"]
    assert len(evaluation([[0.1, 0.1]] * 9, labels, examples=20).examples) == 9


def part(labels):
    records = [record(number, row) for number, row in enumerate(labels)]
    return ClassificationSet(records, ["a", "b"], "memory")


def told(train, val, test=None):
    messages: list[str] = []
    TASK.check_splits(Splits(part(train), part(val), test and part(test), False), Path("x"), messages.append)
    return messages


def test_a_class_that_a_split_lacks_is_told_with_what_it_does_to_the_numbers():
    messages = told([[1, 0]], [[1, 0], [0, 1]], [[0, 1]])
    assert messages == [
        "1 of 2 classes are absent from the training split: b; the network cannot learn them",
        "1 of 2 classes are absent from the test split: a; their F1 counts as 0 there, their AP and AUROC "
        "are left out",
    ]


def test_a_validation_split_without_any_class_is_told():
    assert ["none of the 2 validation images holds any class" in m for m in told([[1, 1]], [[0, 0]] * 2)] == [
        True
    ]


def test_a_split_with_every_class_is_not_worth_a_word():
    assert told([[1, 1]], [[1, 1]], [[1, 1]]) == []
