"""Detection metrics: COCO's numbers by pycocotools, and precision, recall and F1 over the score threshold."""

import contextlib
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shared.metrics.confusion import confusion_matrix
from shared.metrics.threshold_sweep import ThresholdSweep, sweep_thresholds
from shared.vision.boxes import Detections, as_boxes, box_areas, xyxy_to_xywh

MATCH_IOU = 0.5  # a detection at this IoU with a truth box finds it, wherever one threshold is meant

# name -> (first IoU threshold or None for all ten, area range)
_AP_NUMBERS: dict[str, tuple[float | None, str]] = {
    "ap": (None, "all"),
    "ap50": (0.50, "all"),
    "ap75": (0.75, "all"),
    "ap_small": (None, "small"),
    "ap_medium": (None, "medium"),
    "ap_large": (None, "large"),
}


class DetectionEvaluator:
    """Collects pictures with `add`, gives numbers with `compute`; `reset` empties it.

    Detections below every useful threshold still count in AP: hand over all candidates after NMS.
    """

    def __init__(self, class_names: Sequence[str], max_detections: int = 100) -> None:
        self.class_names = list(class_names)
        self.max_detections = max_detections
        self.reset()

    def reset(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._truths: list[dict[str, Any]] = []
        self._detections: list[dict[str, Any]] = []
        self._confusion_input: list[tuple[Detections, NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        self._seen: set[int | str] = set()

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        detections: Detections,
        boxes: ArrayLike,
        labels: ArrayLike,
        ignore: ArrayLike | None,
        image_id: int | str,
        image_size: tuple[int, int],
    ) -> None:
        """Add one picture: truth boxes [n, 4] xyxy in the detections' pixels, labels [n], ignore bool [n].

        A region to ignore (COCO's iscrowd) is no truth, and detections in it count neither way; None: no
        region is. image_size is (height, width). Raises ValueError for a picture added twice, non-finite
        detections, labels without a class name, or lengths that disagree.
        """
        truth = as_boxes(boxes)
        classes = np.asarray(labels, dtype=np.int64).reshape(-1)
        crowd = (
            np.zeros(len(truth), dtype=bool) if ignore is None else np.asarray(ignore, dtype=bool).reshape(-1)
        )
        self._check(detections, truth, classes, crowd, image_id)

        self._seen.add(image_id)
        number = len(self._images) + 1
        height, width = image_size
        self._images.append({"id": number, "width": int(width), "height": int(height)})
        rows = zip(
            xyxy_to_xywh(truth).tolist(),
            box_areas(truth).tolist(),
            classes.tolist(),
            crowd.tolist(),
            strict=True,
        )
        for xywh, area, label, is_crowd in rows:
            self._truths.append(
                {
                    "id": len(self._truths) + 1,  # pycocotools takes id 0 for "no match"
                    "image_id": number,
                    "category_id": label,
                    "bbox": xywh,
                    "area": area,
                    "iscrowd": int(is_crowd),
                }
            )
        found = zip(
            xyxy_to_xywh(detections.boxes).tolist(),
            detections.scores.tolist(),
            detections.labels.tolist(),
            strict=True,
        )
        for xywh, score, label in found:
            self._detections.append({"image_id": number, "category_id": label, "bbox": xywh, "score": score})
        self._confusion_input.append((detections, truth, classes, crowd))

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
        if not self._images:
            raise ValueError("nothing to evaluate: no picture was added")
        evaluation = self._evaluate()
        sweep = self._sweep(evaluation)
        at_threshold = sweep.at(score_threshold)
        best = sweep.best()
        return {
            **self._coco_numbers(evaluation),
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
            "ap50_curve": self._ap50_curve(evaluation),
            "confusion": confusion_matrix(
                self._confusion_input, len(self.class_names), score_threshold, MATCH_IOU
            ),
            "images": len(self._images),
            "truths": sweep.truths,
            "detections": len(self._detections),
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

    def _evaluate(self) -> COCOeval:
        categories = [{"id": label, "name": name} for label, name in enumerate(self.class_names)]
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            truth = COCO()
            truth.dataset = {"images": self._images, "annotations": self._truths, "categories": categories}
            truth.createIndex()
            found = COCO()
            found.dataset = {
                "images": self._images,
                "annotations": [
                    {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
                    for number, row in enumerate(self._detections, start=1)
                ],
                "categories": categories,
            }
            found.createIndex()
            evaluation = COCOeval(truth, found, iouType="bbox")
            evaluation.params.maxDets = [1, 10, self.max_detections]
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation

    def _coco_numbers(self, evaluation: COCOeval) -> dict[str, float | None]:
        thresholds, areas = evaluation.params.iouThrs, evaluation.params.areaRngLbl
        precision = evaluation.eval["precision"]  # [IoU, recall, class, area, maxDets], -1: no truth
        recall = evaluation.eval["recall"]  # [IoU, class, area, maxDets]
        numbers = {}
        for name, (iou, area) in _AP_NUMBERS.items():
            chosen = np.isclose(thresholds, iou) if iou is not None else np.full(len(thresholds), True)
            numbers[name] = _mean_of_defined(precision[chosen][:, :, :, areas.index(area), -1])
        return {**numbers, "ar": _mean_of_defined(recall[:, :, areas.index("all"), -1])}

    def _ap50_curve(self, evaluation: COCOeval) -> dict[str, NDArray[np.float64]]:
        precision = evaluation.eval["precision"][0, :, :, 0, -1]  # [recall, class]
        defined = precision[:, (precision >= 0).all(axis=0)]
        mean = defined.mean(axis=1) if defined.shape[1] else np.zeros(len(precision))
        return {"recall": np.asarray(evaluation.params.recThrs), "precision": mean}

    def _sweep(self, evaluation: COCOeval) -> ThresholdSweep:
        """Scores and hits by COCO's own matching at IoU 0.5, over all areas and classes."""
        whole_area = evaluation.params.areaRng[0]
        scores: list[float] = []
        hits: list[bool] = []
        truths = 0
        for image in evaluation.evalImgs:
            if image is None or image["aRng"] != whole_area:
                continue
            counted = ~np.asarray(image["dtIgnore"][0], dtype=bool)
            scores += np.asarray(image["dtScores"])[counted].tolist()
            hits += (np.asarray(image["dtMatches"][0])[counted] > 0).tolist()
            truths += int((np.asarray(image["gtIgnore"]) == 0).sum())
        return sweep_thresholds(np.asarray(scores), np.asarray(hits, dtype=bool), truths)


def _mean_of_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return None if defined.size == 0 else float(math.fsum(defined.tolist()) / defined.size)
