"""Metrics of detection on streams: COCO's numbers under a protocol, and recall of what stands still."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.metrics.coco import AP_NUMBERS, Matches, PictureEvaluation
from shared.metrics.confusion import Picture, confusion_matrix
from shared.metrics.detection import MATCH_IOU
from shared.metrics.stream_protocol import Frame, Protocol, counted_frames
from shared.metrics.threshold_sweep import OperatingPoint, ThresholdSweep, sweep_thresholds
from shared.vision.boxes import Boxes, Detections, as_boxes

REST_S = 0.5  # a track that has not moved for so long gives no events; only memory finds it

# what `StreamEvaluator.compute` gives as single numbers, each in 0..1 or None
SCALARS = (
    *AP_NUMBERS,
    "ar",
    "precision",
    "recall",
    "f1",
    "best_f1",
    "best_f1_threshold",
    "recall_at_rest",
    "recall_at_rest_best",
    "recall_moving",
    "recall_moving_best",
)


class StreamEvaluator:
    """Collects windows with `add`, recording by recording or in turns, and gives numbers with `compute`.

    Detections below every useful threshold still count in AP: hand over all candidates after NMS.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        size: tuple[int, int],
        *,
        protocol: Protocol | None = None,
        rest_s: float = REST_S,
        max_detections: int = 100,
    ) -> None:
        """size: (height, width) of the frames that boxes are given in. protocol: None for `Protocol()`.

        rest_s: for how long a track's box must have been exactly the same to be at rest. Raises ValueError
        where it is not positive.
        """
        if not rest_s > 0:
            raise ValueError(f"rest_s is {rest_s}; it must be above 0")
        self.class_names = list(class_names)
        self.size = size
        self.protocol = protocol or Protocol()
        self.rest_us = round(rest_s * 1e6)
        self.max_detections = max_detections
        self.reset()

    def reset(self) -> None:
        self._frames: dict[str, list[Frame]] = {}
        # per recording: (track, its box) in the last window -> since when it has been exactly there
        self._since: dict[str, dict[tuple[float, ...], int]] = {}

    def __len__(self) -> int:
        return sum(len(frames) for frames in self._frames.values())

    def add(
        self,
        sequence: str,
        time_us: int,
        detections: Detections,
        class_probability: ArrayLike,
        boxes: ArrayLike,
        labels: ArrayLike,
        track_ids: ArrayLike,
    ) -> NDArray[np.bool_]:
        """Add one window of the recording `sequence`, its truth known; return which truth is at rest, [n].

        time_us: the window's end, from the recording's start, rising within a recording. detections, and the
        probability of each one's class [d], without objectness. boxes [n, 4] xyxy in the detections' pixels,
        labels [n], track_ids [n]; n may be 0. A box is at rest when its track has had exactly this box in
        every window added for rest_s, this one included. Raises ValueError for a time that does not rise,
        non-finite numbers, labels without a class name, truth wholly outside the frame (pixels of another
        size?), or lengths that disagree; nothing is added then.
        """
        time_us = int(time_us)
        where = f"window at {time_us} us of {sequence!r}"
        truth = as_boxes(boxes)
        classes = np.asarray(labels, dtype=np.int64).reshape(-1)
        tracks = np.asarray(track_ids, dtype=np.int64).reshape(-1)
        probability = np.asarray(class_probability, dtype=np.float32).reshape(-1)
        self._check(where, detections, probability, truth, classes, tracks)
        before = self._frames.get(sequence)
        if before and time_us <= before[-1].time_us:
            raise ValueError(
                f"{where} comes after the one at {before[-1].time_us} us; the windows of a recording are"
                " added once each, in order of time"
            )
        at_rest = self._at_rest(sequence, time_us, truth, tracks)
        frame = Frame(time_us, detections, probability, truth, classes, at_rest)
        self._frames.setdefault(sequence, []).append(frame)
        return at_rest

    def compute(self, score_threshold: float = 0.5) -> dict[str, Any]:
        """All numbers over the windows added so far, in 0..1, or None where there is nothing to measure.

        `SCALARS`: ap (IoU 0.50:0.95), ap50, ap75, ap_small, ap_medium, ap_large (areas 32² and 96² px of the
        frames), ar, ranked as the protocol says. The others go by score = objectness · class probability,
        whatever the protocol ranks by, as serving does, and by COCO's matching at IoU 0.5: precision, recall
        and f1 at score_threshold; best_f1, best_f1_threshold; recall_at_rest and recall_moving, of truth
        boxes at rest and of all others, at score_threshold, and with _best at best_f1_threshold.
        boxes_at_rest, boxes_moving, frames, truths, detections, tp, fp, fn: counts.
        per_class: {name: {the AP numbers and ar, precision, recall, f1, boxes (how many), predicted (how
        many at score_threshold), curve}}; curve is {recall, precision}, interpolated, behind its ap50.
        pr_curve: {precision, recall, f1, score} over every distinct score, falling; ap50_curve: mean of the
        classes'. confusion: int64 [C+1, C+1], rows truth, columns predicted, last = none, at
        score_threshold; confusion_normalised: float64, each row over its sum, NaN for rows of nothing.
        class_names: the C classes that the protocol evaluates. Raises ValueError if no window was added.
        """
        if not self._frames:
            raise ValueError("nothing to evaluate: no window was added")
        class_names = self.protocol.classes(self.class_names)
        frames = [
            frame for frames in self._frames.values() for frame in counted_frames(frames, self.protocol)
        ]
        served = [_picture(frame, frame.detections.scores) for frame in frames]
        by_score = PictureEvaluation(
            served, len(class_names), self.max_detections, None if self._ranks_by_score else [MATCH_IOU]
        )
        ranked = by_score
        if not self._ranks_by_score:
            pictures = [_picture(frame, frame.class_probability) for frame in frames]
            ranked = PictureEvaluation(pictures, len(class_names), self.max_detections)

        matches = by_score.matches()
        columns = _Columns(frames)
        sweep = _sweep(columns, matches)
        threshold = float(np.float32(score_threshold))  # as scores are kept, so that 0.7 is not below 0.7
        point, best = sweep.at(threshold), sweep.best() if len(sweep.scores) else None
        best_score = best.score if best else None
        confusion = confusion_matrix(served, len(class_names), score_threshold, MATCH_IOU)
        per_class = {}
        for label, name in enumerate(class_names):
            of_class = _sweep(columns, matches, label)
            per_class[name] = {
                **ranked.ap_numbers(label),
                **_rates(of_class.at(threshold), of_class.truths),
                "boxes": of_class.truths,
                "predicted": _kept(of_class.at(threshold)),
                "curve": ranked.interpolated_curve(label),
            }
        return {
            **ranked.ap_numbers(),
            **_rates(point, sweep.truths),
            "best_f1": best.f1 if best else _rates(point, sweep.truths)["f1"],
            "best_f1_threshold": best_score,
            "recall_at_rest": _recall(matches.found_score[columns.at_rest], threshold),
            "recall_at_rest_best": _recall(matches.found_score[columns.at_rest], best_score),
            "recall_moving": _recall(matches.found_score[~columns.at_rest], threshold),
            "recall_moving_best": _recall(matches.found_score[~columns.at_rest], best_score),
            "boxes_at_rest": int(columns.at_rest.sum()),
            "boxes_moving": int((~columns.at_rest).sum()),
            "tp": point.true_positives,
            "fp": point.false_positives,
            "fn": sweep.truths - point.true_positives,
            "score_threshold": score_threshold,
            "per_class": per_class,
            "pr_curve": sweep.curve(),
            "ap50_curve": ranked.interpolated_curve(),
            "confusion": confusion,
            "confusion_normalised": _normalised(confusion),
            "class_names": class_names,
            "frames": len(frames),
            "truths": sweep.truths,
            "detections": len(columns.scores),
        }

    @property
    def _ranks_by_score(self) -> bool:
        return self.protocol.ranking == "score"

    def _at_rest(
        self, sequence: str, time_us: int, boxes: Boxes, tracks: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        before = self._since.get(sequence, {})
        keys = [(track, *box) for track, box in zip(tracks.tolist(), boxes.tolist(), strict=True)]
        self._since[sequence] = now = {key: before.get(key, time_us) for key in keys}
        return np.array([time_us - now[key] >= self.rest_us for key in keys], dtype=bool)

    def _check(
        self,
        where: str,
        detections: Detections,
        probability: NDArray[np.float32],
        truth: Boxes,
        classes: NDArray[np.int64],
        tracks: NDArray[np.int64],
    ) -> None:
        if not len(truth) == len(classes) == len(tracks):
            raise ValueError(f"{where}: {len(truth)} boxes, {len(classes)} labels, {len(tracks)} track ids")
        if len(probability) != len(detections):
            raise ValueError(
                f"{where}: {len(detections)} detections came with {len(probability)} class probabilities"
            )
        for kind, values in (
            ("a detection's box", detections.boxes),
            ("a detection's score", detections.scores),
            ("a class probability", probability),
            ("a truth box", truth),
        ):
            if not np.isfinite(values).all():
                raise ValueError(f"{where}: {kind} is not finite")
        for kind, labels in (("truth", classes), ("detection", detections.labels)):
            if len(labels) and not (labels.min() >= 0 and labels.max() < len(self.class_names)):
                raise ValueError(
                    f"{where}: {kind} labels {sorted(set(labels.tolist()))}, but there are"
                    f" {len(self.class_names)} classes: {', '.join(self.class_names)}"
                )
        height, width = self.size
        outside = (truth[:, 2:] <= 0).any(axis=1) | (truth[:, :2] >= (width, height)).any(axis=1)
        if outside.any():
            raise ValueError(
                f"{where}: truth box {truth[outside][0].tolist()} lies outside the {height} x {width} frame;"
                " boxes must be in pixels of the frame"
            )


class _Columns:
    """What all frames hold, end to end: labels, scores and rest, as `Matches` numbers them."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        none = np.zeros(0)
        self.labels = np.concatenate([none.astype(np.int64), *(frame.labels for frame in frames)])
        self.at_rest = np.concatenate([none.astype(bool), *(frame.at_rest for frame in frames)])
        self.found_labels = np.concatenate(
            [none.astype(np.int64), *(frame.detections.labels for frame in frames)]
        )
        self.scores = np.concatenate([none, *(frame.detections.scores for frame in frames)])


def _picture(frame: Frame, ranks: NDArray[np.float32]) -> Picture:
    found = Detections(frame.detections.boxes, ranks, frame.detections.labels)
    return found, frame.boxes, frame.labels, np.zeros(len(frame.boxes), bool)


def _sweep(columns: _Columns, matches: Matches, label: int | None = None) -> ThresholdSweep:
    chosen, truths = matches.counted, len(columns.labels)
    if label is not None:
        chosen = chosen & (columns.found_labels == label)
        truths = int((columns.labels == label).sum())
    return sweep_thresholds(columns.scores[chosen], matches.hits[chosen], truths)


def _kept(point: OperatingPoint) -> int:
    return point.true_positives + point.false_positives


def _rates(point: OperatingPoint, truths: int) -> dict[str, float | None]:
    """precision, recall and f1, None where their denominator is 0."""
    return {
        "precision": point.precision if _kept(point) else None,
        "recall": point.recall if truths else None,
        "f1": point.f1 if _kept(point) + truths else None,
    }


def _recall(found_score: NDArray[np.float64], score_threshold: float | None) -> float | None:
    """Part of the truth boxes found at or above the threshold; without one nothing was found at all."""
    if not len(found_score):
        return None
    return 0.0 if score_threshold is None else float((found_score >= score_threshold).mean())


def _normalised(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    sums = confusion.sum(axis=1, keepdims=True)
    return np.where(sums > 0, confusion / np.maximum(sums, 1), np.nan)
