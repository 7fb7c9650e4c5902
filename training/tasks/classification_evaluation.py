"""What a classifier answers to labelled pictures, at thresholds chosen on the split, and the loss."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.data.classification import ClassificationRecord
from shared.families.family import ClassificationFamily
from shared.metrics.multilabel import MultilabelEvaluator, tune_thresholds
from training.network_input import as_float32, network_input
from training.tasks.classification_intervals import Answers
from training.tasks.task import Criterion, Evaluation

_PLAIN_THRESHOLD = 0.5  # what thresholds chosen on a split are compared with


@dataclass
class EvaluationBatch:
    """images uint8 [N, H, W, 3] RGB, the records they came from, and labels float [N, C] for the loss."""

    images: Tensor
    records: list[ClassificationRecord]
    labels: Tensor


@torch.no_grad()
def evaluate(
    family: ClassificationFamily,
    model_config: Any,
    network: nn.Module,
    criterion: Criterion,
    batches: Iterable[EvaluationBatch],
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]],
    channels_last: bool,
    after_batch: Callable[[], None],
    examples: int = 0,
    thresholds: list[float] | None = None,
) -> Evaluation:
    """Run `network` (put into evaluation mode, and back) over `batches`.

    Every number but AP and AUROC holds at `thresholds`, or at those of largest F1 on this split.
    """
    losses: list[float] = []
    records: list[ClassificationRecord] = []
    found: list[NDArray[np.float32]] = []
    sizes: list[int] = []
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            with autocast():
                outputs = network(network_input(batch.images.to(device), channels_last=channels_last))
            logits = as_float32(outputs)
            losses.append(float(criterion(logits, batch.labels.to(device))["loss"]))
            found.append(family.decode(model_config, logits).float().cpu().numpy())
            records += batch.records
            sizes.append(len(batch.records))
            after_batch()
    finally:
        network.train(was_training)
    probabilities = np.concatenate(found)  # [N, C]
    labels = np.stack([record.labels for record in records])  # [N, C]
    chosen = tune_thresholds(probabilities, labels) if thresholds is None else np.asarray(thresholds)
    evaluator = MultilabelEvaluator(family.class_names(model_config))
    evaluator.add(probabilities, labels)
    result = evaluator.compute(chosen)
    plain = evaluator.compute(_PLAIN_THRESHOLD)
    per_class = result.pop("per_class")
    curves = {
        "per_class": result.pop("curves"),
        "undefined": result.pop("undefined"),
        "answers": Answers(probabilities, labels, [record.group for record in records]),
    }
    numbers = {
        "loss": float(np.average(losses, weights=sizes)),
        **result,
        "macro_f1_at_0.5": plain["macro_f1"],
    }
    shown = _telling(labels, examples)
    return Evaluation(
        numbers,
        curves,
        [(records[index], probabilities[index]) for index in shown],
        per_class,
        chosen.tolist(),
    )


def _telling(labels: NDArray[np.bool_], count: int) -> list[int]:
    """Return the indices of up to `count` pictures, classes and none taking turns, in order of the set."""
    holders = [np.flatnonzero(column).tolist() for column in labels.T]
    holders.append(np.flatnonzero(~labels.any(axis=1)).tolist())
    chosen: list[int] = []
    while len(chosen) < min(count, len(labels)):
        for queue in holders:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < count:
                chosen.append(queue.pop(0))
    return sorted(chosen)
