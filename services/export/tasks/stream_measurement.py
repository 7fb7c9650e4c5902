"""How far an exported stream model is from its network, states carried, on held-out recordings."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.export.differences import difference, non_finite, plain_numbers, worst
from services.export.runners import Outputs
from services.export.streams import HISTOGRAMS, Stream, zero_states
from services.export.tasks.candidates import box_difference
from services.export.tasks.task import OnPicture, Subject
from shared.data.events.clips.frame_sequence import FrameSequence
from shared.metrics.coco import CANDIDATE_SCORE
from shared.metrics.stream_detection import StreamEvaluator
from shared.repository.manifest import Thresholds
from shared.vision.boxes import Detections
from shared.vision.nms import nms

WINDOWS = 100  # of each recording, from its beginning
BATCH = 4  # streams side by side
BATCH_WINDOWS = 10


@dataclass
class Drift:
    """Largest difference in the windows after which states were carried: none, all of them, and any."""

    first: float = 0.0
    last: float = 0.0
    largest: float = 0.0

    def add(self, found: float, *, is_first: bool, is_last: bool) -> None:
        self.largest = worst(self.largest, found)
        if is_first:
            self.first = worst(self.first, found)
        if is_last:
            self.last = worst(self.last, found)


@dataclass
class Measurements:
    """Largest differences over all windows; those of boxes in pixels of the histograms.

    boxes, probabilities: of the decoded cells, all of them; boxes as `bounded` has them. states: of all h and
    c. The candidates' are of labelled windows. batch_difference: of scores, probabilities, states, and boxes
    as a share of the longer side. beginning_difference: between no states and zeros, in the network.
    """

    recordings: int = 0
    windows: int = 0
    objects: int = 0
    non_finite: int = 0
    boxes_px: Drift = field(default_factory=Drift)
    probabilities: Drift = field(default_factory=Drift)
    states: Drift = field(default_factory=Drift)
    state_scale: float = 0.0
    candidate_box_difference_px: float = 0.0
    candidate_score_difference: float = 0.0
    candidates_compared: int = 0
    batch_difference: float = 0.0
    beginning_difference: float = 0.0
    largest_label: int = -1
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)


def measure(
    subject: Subject, thresholds: Thresholds, records: Sequence[FrameSequence], on_window: OnPicture
) -> Measurements:
    """Run the beginning of every recording through PyTorch and the file, each carrying states of its own.

    Stops at outputs that are not finite. Raises DatasetUnreadable for a file that cannot be read.
    """
    result = Measurements()
    before, after = (_evaluator(subject, thresholds) for _ in range(2))
    total = sum(min(WINDOWS, len(record)) for record in records)
    for record in records:
        count = min(WINDOWS, len(record))
        labelled = set(record.labelled[record.labelled < count].tolist())
        expecting = Stream(subject.reference, subject.states, zeros=None)
        answering = Stream(subject.inner, subject.states, zeros=1)
        for window in range(count):
            histograms = record.read(window, window + 1)
            expected, found = expecting.step(histograms), answering.step(histograms)
            result.windows += 1
            following = [state.output for state in subject.states]
            result.non_finite += non_finite(found, ("boxes", "scores", "class_probabilities", *following))
            if result.non_finite:
                return result
            _compare(result, subject, expected, found, is_first=window == 0, is_last=window == count - 1)
            if window in labelled:
                _compare_candidates(result, expected, found)
                for evaluator, outputs in ((before, expected), (after, found)):
                    _add(evaluator, thresholds, record, window, outputs)
            on_window(result.windows, total)
        result.recordings += 1
        result.objects += len(record.boxes(0, count))
    if records:
        result.beginning_difference = _beginning_difference(subject, records[0])
        result.batch_difference = _batch_difference(subject, records)
    if len(before):
        threshold = thresholds.score_threshold
        result.before, result.after = (plain_numbers(each.compute(threshold)) for each in (before, after))
    return result


def bounded(boxes: NDArray[np.float32], side_px: int) -> NDArray[np.float64]:
    """Coordinates in pixels, those beyond `side_px` as the same share of it that they are of themselves.

    A side of a box is an exponential, and nothing ever taught the cells without an object: theirs may be
    of 10¹⁴ pixels, of which the last digit of a float is thousands. Beyond the frame a logarithm takes over,
    so that a difference there is a relative one.
    """
    values = np.clip(boxes.astype(np.float64), -1e30, 1e30)  # an overflow is the same in both, or shows
    beyond = np.maximum(np.abs(values) / side_px, 1.0)
    return np.sign(values) * np.where(beyond > 1, side_px * (1 + np.log(beyond)), np.abs(values))


def _compare(
    result: Measurements,
    subject: Subject,
    expected: Outputs,
    found: Outputs,
    *,
    is_first: bool,
    is_last: bool,
) -> None:
    (cells,) = subject.raw_names
    one, other = expected[cells], found[cells]
    side = max(subject.input_size)
    states = 0.0
    for state in subject.states:
        states = worst(states, difference(expected[state.output], found[state.output]))
        result.state_scale = max(result.state_scale, float(np.abs(expected[state.output]).max()))
    for drift, measured in (
        (result.boxes_px, difference(bounded(one[..., :4], side), bounded(other[..., :4], side))),
        (result.probabilities, difference(one[..., 4:], other[..., 4:])),
        (result.states, states),
    ):
        drift.add(measured, is_first=is_first, is_last=is_last)
    result.largest_label = max(result.largest_label, int(found["labels"].max(initial=-1)))


def _compare_candidates(result: Measurements, expected: Outputs, found: Outputs) -> None:
    for name in ("scores", "class_probabilities"):
        # Of the probabilities only their order by score is comparable, so they are compared as a set.
        one, other = (np.sort(outputs[name], axis=1) for outputs in (expected, found))
        result.candidate_score_difference = worst(result.candidate_score_difference, difference(one, other))
    farthest, compared = box_difference(expected, found, 0)
    result.candidate_box_difference_px = worst(result.candidate_box_difference_px, farthest)
    result.candidates_compared += compared


def _beginning_difference(subject: Subject, record: FrameSequence) -> float:
    """Return what it changes in the network whether a stream begins with zeros or without states."""
    histograms = {HISTOGRAMS: record.read(0, 1)}
    without = subject.reference(histograms)
    zeros = subject.reference({**histograms, **zero_states(subject.states, 1)})
    largest = 0.0
    for name in without:
        largest = worst(largest, difference(without[name], zeros[name]))
    return largest


def _batch_difference(subject: Subject, records: Sequence[FrameSequence]) -> float:
    """Return how much a stream's answers depend on the streams beside it: batch 1 against batch N.

    The streams are of different recordings where there are so many, else from different places of them.
    """
    (cells,) = subject.raw_names
    length = min(BATCH_WINDOWS, min(len(record) for record in records))
    pieces = []
    for lane in range(BATCH):
        record = records[lane % len(records)]
        start = (len(record) - length) * (lane // len(records)) // BATCH
        pieces.append(record.read(start, start + length))
    together = Stream(subject.inner, subject.states, zeros=BATCH)
    alone = [Stream(subject.inner, subject.states, zeros=1) for _ in pieces]
    side = max(subject.input_size)
    largest = 0.0
    for window in range(length):
        joint = together.step(np.stack([piece[window] for piece in pieces]))
        single = [
            stream.step(piece[window : window + 1]) for stream, piece in zip(alone, pieces, strict=True)
        ]
        for name in (cells, "scores", *(state.output for state in subject.states)):
            one, other = joint[name], np.concatenate([outputs[name] for outputs in single])
            if name == cells:
                boxes = (bounded(each[..., :4], side) for each in (one, other))
                largest = worst(largest, difference(*boxes) / side)
                one, other = one[..., 4:], other[..., 4:]
            largest = worst(largest, difference(one, other))
    return largest


def _evaluator(subject: Subject, thresholds: Thresholds) -> StreamEvaluator:
    return StreamEvaluator(subject.labels, subject.input_size, max_detections=thresholds.max_detections)


def _add(
    evaluator: StreamEvaluator, thresholds: Thresholds, record: FrameSequence, window: int, outputs: Outputs
) -> None:
    boxes, scores, labels, probability = (
        outputs[name][0] for name in ("boxes", "scores", "labels", "class_probabilities")
    )
    enough = scores >= np.float32(CANDIDATE_SCORE)
    candidates = Detections(boxes[enough], scores[enough], labels[enough])
    kept = nms(
        candidates.boxes,
        candidates.scores,
        candidates.labels,
        thresholds.iou_threshold,
        thresholds.max_detections,
    )
    truth = record.boxes(window, window + 1)
    evaluator.add(
        record.name,
        int(record.end_us[window]),
        candidates.select(kept),
        probability[enough][kept],
        truth.corners,
        truth.classes,
        truth.track_ids,
    )
