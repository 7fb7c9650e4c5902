"""How far the exported file is from the network, measured on held-out pictures."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.export.held_out import Picture, batches
from services.export.runners import Outputs, Runner
from services.export.suppression import CANDIDATES
from shared.data.dataset import DetectionRecord
from shared.metrics.detection import DetectionEvaluator
from shared.repository.manifest import Thresholds
from shared.vision.boxes import Detections
from shared.vision.nms import nms

BATCH = 8
# AP integrates over the whole curve: candidates far below any serving threshold belong to it.
CANDIDATE_SCORE = 0.001
# Candidates of nearly equal score may change places between two runtimes; they are compared as a set.
SAME_SCORE = 1e-3


@dataclass
class Measurements:
    """Largest differences over all pictures; box differences in pixels of the network's input."""

    pictures: int = 0
    objects: int = 0
    non_finite: int = 0
    raw_difference: float = 0.0
    score_difference: float = 0.0
    box_difference_px: float = 0.0
    candidates_compared: int = 0
    batch_difference: float = 0.0
    largest_label: int = -1
    suppression_mismatches: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is compared. `inner` runs the shipped nodes too, and shows tensors inside the file."""

    reference: Runner
    shipped: Runner
    inner: Runner
    raw_names: Sequence[str]
    labels: Sequence[str]
    thresholds: Thresholds
    image_size: tuple[int, int]
    end_to_end: bool


def measure(
    subject: Subject,
    records: Sequence[DetectionRecord],
    on_picture: Callable[[int, int], None] = lambda done, total: None,
) -> Measurements:
    """Run every record's picture through PyTorch and the file. Stops at outputs that are not finite."""
    result = Measurements()
    limit = subject.thresholds.max_detections
    before, after = (DetectionEvaluator(subject.labels, limit) for _ in range(2))
    for pictures in batches(records, subject.image_size, BATCH):
        images = np.stack([picture.pixels for picture in pictures])
        expected, inner, shipped = subject.reference(images), subject.inner(images), subject.shipped(images)
        result.pictures += len(pictures)
        result.objects += sum(int((~picture.record.ignore).sum()) for picture in pictures)
        result.non_finite += sum(int((~np.isfinite(shipped[name])).sum()) for name in ("boxes", "scores"))
        if result.non_finite:
            return result
        _compare(result, subject, expected, inner, shipped)
        for index, picture in enumerate(pictures):
            _add(before, subject, picture, expected, index, end_to_end=False)
            _add(after, subject, picture, shipped, index, end_to_end=subject.end_to_end)
        on_picture(result.pictures, len(records))
    result.batch_difference = _batch_difference(subject, records)
    if result.pictures:
        threshold = subject.thresholds.score_threshold
        result.before, result.after = (_numbers(each.compute(threshold)) for each in (before, after))
    return result


def _compare(
    result: Measurements, subject: Subject, expected: Outputs, inner: Outputs, shipped: Outputs
) -> None:
    for name in subject.raw_names:
        result.raw_difference = _worst(result.raw_difference, _difference(expected[name], inner[name]))
    result.largest_label = max(result.largest_label, int(shipped["labels"].max(initial=-1)))
    # End to end, the candidates lie inside the graph and the outputs are what suppression left of them.
    found = {key: inner[inside] for key, inside in CANDIDATES.items()} if subject.end_to_end else shipped
    result.score_difference = _worst(
        result.score_difference, _difference(expected["scores"], found["scores"])
    )
    for index in range(len(expected["scores"])):
        worst, compared = _box_difference(expected, found, index)
        result.box_difference_px = _worst(result.box_difference_px, worst)
        result.candidates_compared += compared
    if subject.end_to_end:
        result.suppression_mismatches += sum(
            not _same_suppression(subject.thresholds, found, shipped, index)
            for index in range(len(shipped["scores"]))
        )


def _difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    if one.shape != other.shape:
        return math.inf
    return float(np.abs(one.astype(np.float64) - other.astype(np.float64)).max(initial=0.0))


def _worst(one: float, other: float) -> float:
    return other if math.isnan(other) or other > one else one  # NaN stays, which max() would drop


def _box_difference(expected: Outputs, found: Outputs, index: int) -> tuple[float, int]:
    """Return the largest distance (pixels) of a reference candidate to its own box, and how many there were.

    A candidate's own box is the nearest among those with nearly its score and its label. The last ones are
    left out: near the end of the top k, a candidate of nearly equal score may stand for it.
    """
    scores, boxes, labels = (expected[name][index] for name in ("scores", "boxes", "labels"))
    counted = np.flatnonzero(scores > scores[-1] + SAME_SCORE) if len(scores) else np.zeros(0, np.int64)
    worst = 0.0
    for candidate in counted:
        like = np.abs(found["scores"][index] - scores[candidate]) <= SAME_SCORE
        like &= found["labels"][index] == labels[candidate]
        distances = np.abs(found["boxes"][index][like] - boxes[candidate]).max(axis=1)
        worst = max(worst, float(distances.min(initial=math.inf)))
    return worst, len(counted)


def _same_suppression(thresholds: Thresholds, found: Outputs, shipped: Outputs, index: int) -> bool:
    boxes, scores, labels = (found[name][index] for name in ("boxes", "scores", "labels"))
    enough = np.flatnonzero(scores >= np.float32(thresholds.score_threshold))
    kept = enough[
        nms(
            boxes[enough],
            scores[enough],
            labels[enough],
            thresholds.iou_threshold,
            thresholds.max_detections,
        )
    ]
    count = int(shipped["num_detections"][index])
    return count == len(kept) and all(
        np.array_equal(values[kept], shipped[name][index][:count])
        for name, values in (("boxes", boxes), ("scores", scores), ("labels", labels))
    )


def _add(
    evaluator: DetectionEvaluator,
    subject: Subject,
    picture: Picture,
    outputs: Outputs,
    index: int,
    *,
    end_to_end: bool,
) -> None:
    record, thresholds = picture.record, subject.thresholds
    candidates = Detections(*(outputs[name][index] for name in ("boxes", "scores", "labels")))
    if end_to_end:
        kept = candidates.select(np.arange(int(outputs["num_detections"][index])))
    else:
        # A file with suppression inside stops at the serving threshold, so its reference has to as well.
        least = thresholds.score_threshold if subject.end_to_end else CANDIDATE_SCORE
        enough = candidates.select(candidates.scores >= np.float32(least))
        kept = enough.select(
            nms(
                enough.boxes,
                enough.scores,
                enough.labels,
                thresholds.iou_threshold,
                thresholds.max_detections,
            )
        )
    in_source = Detections(picture.geometry.to_source(kept.boxes), kept.scores, kept.labels)
    evaluator.add(
        in_source, record.boxes, record.labels, record.ignore, record.image_id, (record.height, record.width)
    )


def _batch_difference(subject: Subject, records: Sequence[DetectionRecord]) -> float:
    """Return how much the answer for a picture depends on the company it is in: batch 1 against batch N.

    Raw outputs and scores are compared, since equal scores may leave the candidates' order open.
    """
    pictures = next(batches(records, subject.image_size, BATCH), [])
    if not pictures:
        return 0.0
    if len(pictures) == 1:
        pictures = pictures * 2
    images = np.stack([picture.pixels for picture in pictures])
    together = subject.inner(images)
    alone = [subject.inner(images[index : index + 1]) for index in range(len(images))]
    worst = 0.0
    for name in (*subject.raw_names, "scores"):
        worst = _worst(
            worst, _difference(together[name], np.concatenate([outputs[name] for outputs in alone]))
        )
    return worst


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the plain numbers, without curves and without those that had nothing to measure."""
    return {
        key: float(value)
        for key, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
