"""Detection metrics: COCO's numbers by pycocotools, and precision, recall and F1 over the score threshold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.metrics.coco import PictureEvaluation
from shared.metrics.confusion import Picture, confusion_matrix
from shared.metrics.threshold_sweep import ThresholdSweep, sweep_thresholds
from shared.vision.boxes import Detections, as_boxes

MATCH_IOU = 0.5  # a detection at this IoU with a truth box finds it, wherever one threshold is meant


class DetectionEvaluator:
    """Collects pictures with `add`, gives numbers with `compute`; `reset` empties it.

    Detections below every useful threshold still count in AP: hand over all candidates after NMS.
    """

    def __init__(self, class_names: Sequence[str], max_detections: int = 100) -> None:
        self.class_names = list(class_names)
        self.max_detections = max_detections
        self.reset()

    def reset(self) -> None:
        self._pictures: list[Picture] = []
        self._seen: set[int | str] = set()

    def __len__(self) -> int:
        return len(self._pictures)

    def add(
        self,
        detections: Detections,
        boxes: ArrayLike,
        labels: ArrayLike,
        ignore: ArrayLike | None,
        image_id: int | str,
    ) -> None:
        """Add one picture: truth boxes [n, 4] xyxy in the detections' pixels, labels [n], ignore bool [n].

        A region to ignore (COCO's iscrowd) is no truth, and detections in it count neither way; None: no
        region is. Raises ValueError for a picture added twice, non-finite detections, labels without a class
        name, or lengths that disagree.
        """
        truth = as_boxes(boxes)
        classes = np.asarray(labels, dtype=np.int64).reshape(-1)
        crowd = (
            np.zeros(len(truth), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool).reshape(-1)
        )
        self._check(detections, truth, classes, crowd, image_id)

        self._seen.add(image_id)
        self._pictures.append((detections, truth, classes, crowd))

    def compute(self, score_threshold: float = 0.5) -> dict[str, Any]:
        """All numbers, in 0..1, over the pictures added so far.

        ap (IoU 0.50:0.95), ap50, ap75, ap_small, ap_medium, ap_large (COCO's 32² and 96² pixels, by box
        area), ar (at max_detections): floats, or None where there is no truth box to find.
        precision, recall, f1 at score_threshold; best_f1, best_f1_threshold; counts tp, fp, fn at
        score_threshold: by COCO's matching at IoU 0.5, summed over classes.
        pr_curve: {precision, recall, f1, score} arrays over every distinct score, falling;
        ap50_curve: {recall, precision}, COCO's interpolated curve behind ap50;
        confusion: int64 [C+1, C+1], rows truth, columns predicted, last = none, at score_threshold;
        images, truths, detections: how many. Raises ValueError if no picture was added.
        """
        if not self._pictures:
            raise ValueError("nothing to evaluate: no picture was added")
        evaluation = PictureEvaluation(self._pictures, len(self.class_names), self.max_detections)
        sweep = self._sweep(evaluation)
        at_threshold = sweep.at(score_threshold)
        best = sweep.best()
        return {
            **evaluation.ap_numbers(),
            "precision": at_threshold.precision,
            "recall": at_threshold.recall,
            "f1": at_threshold.f1,
            "best_f1": best.f1,
            "best_f1_threshold": best.score,
            "tp": at_threshold.true_positives,
            "fp": at_threshold.false_positives,
            "fn": sweep.truths - at_threshold.true_positives,
            "score_threshold": score_threshold,
            "pr_curve": sweep.curve(),
            "ap50_curve": evaluation.interpolated_curve(),
            "confusion": confusion_matrix(self._pictures, len(self.class_names), score_threshold, MATCH_IOU),
            "images": len(self._pictures),
            "truths": sweep.truths,
            "detections": sum(len(found) for found, *_ in self._pictures),
        }

    def _check(
        self,
        detections: Detections,
        truth: NDArray[np.float32],
        classes: NDArray[np.int64],
        crowd: NDArray[np.bool_],
        image_id: int | str,
    ) -> None:
        if image_id in self._seen:
            raise ValueError(f"picture {image_id!r} was added before; a picture counts once")
        if not len(truth) == len(classes) == len(crowd):
            raise ValueError(
                f"picture {image_id!r}: {len(truth)} boxes, {len(classes)} labels, {len(crowd)} ignore flags"
            )
        if not (np.isfinite(detections.boxes).all() and np.isfinite(detections.scores).all()):
            raise ValueError(f"picture {image_id!r}: a detection's box or score is not finite")
        for kind, values in (("truth", classes), ("detection", detections.labels)):
            if len(values) and not (values.min() >= 0 and values.max() < len(self.class_names)):
                raise ValueError(
                    f"picture {image_id!r}: {kind} labels {sorted(set(values.tolist()))}, but there are"
                    f" {len(self.class_names)} classes"
                )

    def _sweep(self, evaluation: PictureEvaluation) -> ThresholdSweep:
        matches = evaluation.matches()
        scores = np.concatenate([np.zeros(0), *(found.scores for found, *_ in self._pictures)])
        truths = sum(int((~ignore).sum()) for *_, ignore in self._pictures)
        return sweep_thresholds(scores[matches.counted], matches.hits[matches.counted], truths)
