"""From a graph's candidates to what is answered: thresholds, suppression and a limit, whatever has boxes."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from services.detector.dataplane.problems import FixedSuppression, InferenceFailed
from services.detector.dataplane.session import Tensors
from shared.repository.manifest import Manifest, Thresholds
from shared.vision.boxes import Detections
from shared.vision.nms import nms


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a request asks for in place of the manifest's thresholds; None leaves the manifest's."""

    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None


class CandidateFilter:
    """What one version does with its candidates, as its manifest states it."""

    def __init__(self, manifest: Manifest) -> None:
        thresholds = manifest.thresholds
        assert isinstance(thresholds, Thresholds)  # the manifest refuses a model with boxes without
        self._labels = len(manifest.labels)
        self._score_threshold = thresholds.score_threshold
        self._iou_threshold = thresholds.iou_threshold
        self._max_detections = thresholds.max_detections
        self._end_to_end = manifest.end_to_end

    def check(self, overrides: Overrides) -> None:
        """Raise FixedSuppression where an IoU threshold is stated and suppression is in the graph."""
        if self._end_to_end and overrides.iou_threshold is not None:
            raise FixedSuppression(
                f"iou_threshold={overrides.iou_threshold:g} cannot be applied: non-maximum suppression is "
                f"inside this model's graph, at {self._iou_threshold:g}; leave the field out"
            )

    def keep(self, outputs: Tensors, overrides: Overrides) -> Detections:
        """Return what is left of one row's candidates, best score first, in pixels of the graph's input.

        outputs: boxes float32 [1, K, 4] in input pixels, scores float32 [1, K], labels int64 [1, K], and
        with suppression in the graph num_detections int64 [1]. Raises InferenceFailed for numbers that are
        not finite and labels without a name.
        """
        boxes, scores, labels = outputs["boxes"][0], outputs["scores"][0], outputs["labels"][0]
        if self._end_to_end:
            count = int(outputs["num_detections"][0])
            boxes, scores, labels = boxes[:count], scores[:count], labels[:count]
        if not (np.isfinite(scores).all() and np.isfinite(boxes).all()):
            raise InferenceFailed("the model answered with numbers that are not finite; export it again")
        threshold = _first(overrides.score_threshold, self._score_threshold)
        limit = _first(overrides.max_detections, self._max_detections)
        candidates = Detections(boxes, scores, labels).select(scores >= threshold)
        if self._end_to_end:
            kept = candidates.select(np.argsort(-candidates.scores, kind="stable")[:limit])
        else:
            iou_threshold = _first(overrides.iou_threshold, self._iou_threshold)
            kept = candidates.select(
                nms(candidates.boxes, candidates.scores, candidates.labels, iou_threshold, limit)
            )
        if len(kept) and not 0 <= kept.labels.min() <= kept.labels.max() < self._labels:
            raise InferenceFailed(
                f"the model answered with label {kept.labels.max()} and has {self._labels} names; "
                "export it again"
            )
        return kept


def _first(asked: Any, default: Any) -> Any:
    return default if asked is None else asked
