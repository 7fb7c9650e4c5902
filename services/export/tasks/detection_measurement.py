"""How far the exported file is from the network, measured on held-out pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from services.export.differences import batch_difference, difference, non_finite, plain_numbers, worst
from services.export.held_out import Picture, batches
from services.export.runners import Outputs
from services.export.tasks.candidates import box_difference
from services.export.tasks.detection_suppression import CANDIDATES
from services.export.tasks.picture_graph import INPUT
from services.export.tasks.task import OnPicture, Subject
from shared.data.dataset import DetectionRecord
from shared.metrics.coco import CANDIDATE_SCORE
from shared.metrics.detection import DetectionEvaluator
from shared.repository.manifest import Thresholds
from shared.vision.boxes import Detections
from shared.vision.nms import nms

BATCH = 8


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


def measure(
    subject: Subject, thresholds: Thresholds, records: Sequence[DetectionRecord], on_picture: OnPicture
) -> Measurements:
    """Run every record's picture through PyTorch and the file. Stops at outputs that are not finite."""
    result = Measurements()
    limit = thresholds.max_detections
    before, after = (DetectionEvaluator(subject.labels, limit) for _ in range(2))
    for pictures in batches(records, subject.input_size, BATCH):
        images = {INPUT: np.stack([picture.pixels for picture in pictures])}
        expected, inner, shipped = subject.reference(images), subject.inner(images), subject.shipped(images)
        result.pictures += len(pictures)
        result.objects += sum(int((~picture.record.ignore).sum()) for picture in pictures)
        result.non_finite += non_finite(shipped, ("boxes", "scores"))
        if result.non_finite:
            return result
        _compare(result, subject, thresholds, expected, inner, shipped)
        for index, picture in enumerate(pictures):
            _add(before, subject, thresholds, picture, expected, index, end_to_end=False)
            _add(after, subject, thresholds, picture, shipped, index, end_to_end=subject.end_to_end)
        on_picture(result.pictures, len(records))
    first = next(batches(records, subject.input_size, BATCH), [])
    if first:  # equal scores may leave the candidates' order open, so raw outputs and scores are compared
        images = {INPUT: np.stack([picture.pixels for picture in first])}
        result.batch_difference = batch_difference(subject.inner, images, [*subject.raw_names, "scores"])
    if result.pictures:
        threshold = thresholds.score_threshold
        result.before, result.after = (plain_numbers(each.compute(threshold)) for each in (before, after))
    return result


def _compare(
    result: Measurements,
    subject: Subject,
    thresholds: Thresholds,
    expected: Outputs,
    inner: Outputs,
    shipped: Outputs,
) -> None:
    for name in subject.raw_names:
        result.raw_difference = worst(result.raw_difference, difference(expected[name], inner[name]))
    result.largest_label = max(result.largest_label, int(shipped["labels"].max(initial=-1)))
    # End to end, the candidates lie inside the graph and the outputs are what suppression left of them.
    found = {key: inner[inside] for key, inside in CANDIDATES.items()} if subject.end_to_end else shipped
    result.score_difference = worst(result.score_difference, difference(expected["scores"], found["scores"]))
    for index in range(len(expected["scores"])):
        farthest, compared = box_difference(expected, found, index)
        result.box_difference_px = worst(result.box_difference_px, farthest)
        result.candidates_compared += compared
    if subject.end_to_end:
        result.suppression_mismatches += sum(
            not _same_suppression(thresholds, found, shipped, index)
            for index in range(len(shipped["scores"]))
        )


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
    thresholds: Thresholds,
    picture: Picture[DetectionRecord],
    outputs: Outputs,
    index: int,
    *,
    end_to_end: bool,
) -> None:
    record = picture.record
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
    evaluator.add(in_source, record.boxes, record.labels, record.ignore, record.image_id)
