"""How far an exported classification model is from its network, measured on held-out pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.export.differences import batch_difference, difference, non_finite, plain_numbers, worst
from services.export.held_out import batches
from services.export.runners import Outputs
from services.export.tasks.picture_graph import INPUT
from services.export.tasks.task import OnPicture, Subject
from shared.data.classification import ClassificationRecord
from shared.metrics.multilabel import MultilabelEvaluator

BATCH = 4  # pictures may be long strips, with much memory for each


@dataclass
class Measurements:
    """Largest differences over all pictures.

    positives: labels that the pictures hold. map_scale: largest absolute value in the network's maps.
    map_mean_difference: of the mean of a class's map to its logit, in the file. decisions, agreed: labels
    that were decided, and those decided equally by network and file.
    """

    pictures: int = 0
    positives: int = 0
    non_finite: int = 0
    logit_difference: float = 0.0
    probability_difference: float = 0.0
    map_difference: float = 0.0
    map_scale: float = 0.0
    map_mean_difference: float = 0.0
    batch_difference: float = 0.0
    decisions: int = 0
    agreed: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


def measure(
    subject: Subject,
    thresholds: Sequence[float],
    records: Sequence[ClassificationRecord],
    on_picture: OnPicture,
) -> Measurements:
    """Run every record's picture through PyTorch and the file. Stops at outputs that are not finite."""
    result = Measurements()
    least = np.asarray(thresholds, np.float32)
    before, after = (MultilabelEvaluator(subject.labels) for _ in range(2))
    for pictures in batches(records, subject.input_size, BATCH):
        images = {INPUT: np.stack([picture.pixels for picture in pictures])}
        expected, inner, shipped = subject.reference(images), subject.inner(images), subject.shipped(images)
        labels = np.stack([picture.record.labels for picture in pictures])
        result.pictures += len(pictures)
        result.positives += int(labels.sum())
        result.non_finite += non_finite(shipped, ("probabilities", "activation_maps"))
        if result.non_finite:
            return result
        if result.pictures == len(pictures):  # the first batch
            compared = [*subject.raw_names, "probabilities"]
            result.batch_difference = batch_difference(subject.inner, images, compared)
        _compare(result, subject, expected, inner, shipped)
        decided = [outputs["probabilities"] >= least for outputs in (expected, shipped)]
        result.decisions += decided[0].size
        result.agreed += int((decided[0] == decided[1]).sum())
        before.add(expected["probabilities"], labels)
        after.add(shipped["probabilities"], labels)
        on_picture(result.pictures, len(records))
    if result.pictures:
        result.before, result.after = (plain_numbers(each.compute(least)) for each in (before, after))
    return result


def _compare(
    result: Measurements, subject: Subject, expected: Outputs, inner: Outputs, shipped: Outputs
) -> None:
    (logits,) = subject.raw_names
    maps, shipped_maps = expected["activation_maps"], shipped["activation_maps"]
    means = shipped_maps.mean(axis=(2, 3), dtype=np.float64)
    for name, found in (
        ("logit_difference", difference(expected[logits], inner[logits])),
        ("probability_difference", difference(expected["probabilities"], shipped["probabilities"])),
        ("map_difference", difference(maps, shipped_maps)),
        ("map_scale", float(np.abs(maps).max(initial=0.0))),
        ("map_mean_difference", difference(means, inner[logits])),
    ):
        setattr(result, name, worst(getattr(result, name), found))
