"""COCO's matching and average precision, by pycocotools, over pictures that lie in memory as arrays."""

import contextlib
import io
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.cocoeval import COCOeval

from shared.metrics.confusion import Picture
from shared.vision.boxes import box_areas, xyxy_to_xywh

# AP integrates over the whole precision-recall curve: candidates below any serving threshold belong to it.
CANDIDATE_SCORE = 0.001

# name -> (one IoU threshold or None for all ten, area range)
AP_NUMBERS: dict[str, tuple[float | None, str]] = {
    "ap": (None, "all"),
    "ap50": (0.50, "all"),
    "ap75": (0.75, "all"),
    "ap_small": (None, "small"),
    "ap_medium": (None, "medium"),
    "ap_large": (None, "large"),
}


@dataclass(frozen=True, slots=True)
class Matches:
    """COCO's matching at one IoU threshold, class by class, over all areas.

    Detections and truth boxes are numbered as the pictures name them, one picture after the other.
    found_score: float64 [truths], the score of the detection that found a truth box, -inf for one missed.
    hits: bool [detections]; counted: bool [detections], False beyond max_detections of a class and picture,
    and for those that found a region to ignore.
    """

    found_score: NDArray[np.float64]
    hits: NDArray[np.bool_]
    counted: NDArray[np.bool_]


class PictureEvaluation(COCOeval):
    """COCOeval without files or index, that compares with truth boxes only what can match one.

    pycocotools tries every detection against every truth box at ten thresholds and four area ranges, in
    Python. Here those that overlap no box by the lowest threshold are left out of it: they are unmatched.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        class_count: int,
        max_detections: int = 100,
        iou_thresholds: Sequence[float] | None = None,
    ) -> None:
        """Evaluate and accumulate at once. iou_thresholds: rising; None for COCO's 0.50, 0.55, … 0.95."""
        super().__init__(iouType="bbox")
        self.pictures = pictures
        self.params.imgIds = list(range(len(pictures)))
        self.params.catIds = list(range(class_count))
        self.params.maxDets = [max_detections]
        if iou_thresholds is not None:
            self.params.iouThrs = np.asarray(iou_thresholds, np.float64)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            self.evaluate()
            self.accumulate()

    def ap_numbers(self, label: int | None = None) -> dict[str, float | None]:
        """ap, ap50, ap75, ap_small, ap_medium, ap_large and ar, of one class or the mean over classes.

        None where there is no truth box to find. All of COCO's thresholds must have been evaluated.
        """
        areas, chosen = self.params.areaRngLbl, slice(None) if label is None else slice(label, label + 1)
        precision = self.eval["precision"][:, :, chosen]  # [IoU, recall, class, area, 1], -1: no truth
        recall = self.eval["recall"][:, chosen]  # [IoU, class, area, 1]
        numbers = {}
        for name, (iou, area) in AP_NUMBERS.items():
            at = slice(None) if iou is None else np.isclose(self.params.iouThrs, iou)
            numbers[name] = _mean_of_defined(precision[at][:, :, :, areas.index(area), -1])
        return {**numbers, "ar": _mean_of_defined(recall[:, :, areas.index("all"), -1])}

    def interpolated_curve(self, label: int | None = None) -> dict[str, NDArray[np.float64]]:
        """{recall [101], precision [101]} at the lowest IoU threshold, of one class or the mean over classes.

        The curve that the AP at that threshold is the mean of; precision is 0 where there is no truth box.
        """
        chosen = slice(None) if label is None else slice(label, label + 1)
        precision = self.eval["precision"][0, :, chosen, 0, -1]  # [recall, class]
        defined = precision[:, (precision >= 0).all(axis=0)]
        mean = defined.mean(axis=1) if defined.shape[1] else np.zeros(len(precision))
        return {"recall": np.asarray(self.params.recThrs), "precision": mean}

    def matches(self) -> Matches:
        """What found what at the lowest IoU threshold."""
        scores = np.concatenate([np.zeros(0), *(found.scores for found, *_ in self.pictures)])
        found_score = np.full(sum(len(boxes) for _, boxes, *_ in self.pictures), -np.inf)
        hits, counted = np.zeros(len(scores), bool), np.zeros(len(scores), bool)
        whole_area = self.params.areaRng[0]
        for image in self.evalImgs:
            if image is None or image["aRng"] != whole_area:
                continue
            detections = np.asarray(image["dtIds"], np.int64) - 1
            matched = np.asarray(image["dtMatches"][0]) > 0
            kept = ~np.asarray(image["dtIgnore"][0], dtype=bool)
            counted[detections[kept]] = True
            hits[detections[kept & matched]] = True
            by = np.asarray(image["gtMatches"][0], np.int64) - 1
            truths = np.asarray(image["gtIds"], np.int64)[by >= 0] - 1
            found_score[truths] = scores[by[by >= 0]]
        return Matches(found_score, hits, counted)

    def _prepare(self) -> None:
        self._gts: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self._dts: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
        self._arrays: dict[tuple[int, int], dict[str, NDArray[Any]]] = {}  # columns of _dts
        truth_id = detection_id = 0  # from 1 on: pycocotools takes id 0 for "no match"
        for image, (found, boxes, labels, ignore) in enumerate(self.pictures):
            truths = (xyxy_to_xywh(boxes), box_areas(boxes), labels, ignore)
            for xywh, area, label, crowd in zip(*(column.tolist() for column in truths), strict=True):
                truth_id += 1
                self._gts[image, label].append(
                    {"id": truth_id, "bbox": xywh, "area": area, "iscrowd": int(crowd), "ignore": int(crowd)}
                )
            answers = (xyxy_to_xywh(found.boxes), found.scores, found.labels)
            for xywh, score, label in zip(*(column.tolist() for column in answers), strict=True):
                detection_id += 1
                self._dts[image, label].append(
                    {"id": detection_id, "bbox": xywh, "area": xywh[2] * xywh[3], "score": score}
                )
        for key, rows in self._dts.items():
            rows.sort(key=lambda row: -row["score"])  # stable, as pycocotools sorts
            del rows[self.params.maxDets[-1] :]
            self._arrays[key] = {
                name: np.array([row[name] for row in rows]) for name in ("id", "area", "score")
            }
        self.evalImgs: list[dict[str, Any] | None] = []
        self.eval: dict[str, Any] = {}

    def evaluateImg(  # noqa: N802  # the names are pycocotools'
        self,
        imgId: int,  # noqa: N803
        catId: int,  # noqa: N803
        aRng: list[float],  # noqa: N803
        maxDet: int,  # noqa: N803
    ) -> dict[str, Any] | None:
        key = (imgId, catId)
        found, ious = self._dts[key], self.ious[key]
        if not found:
            return super().evaluateImg(imgId, catId, aRng, maxDet)
        if not self._gts[key]:
            return self._with_far(key, aRng, maxDet, np.zeros(len(found), bool), None)
        near = ious.max(axis=1) >= self.params.iouThrs[0] - 1e-9  # 1e-9: pycocotools' own slack and more
        self._dts[key] = [found[row] for row in np.flatnonzero(near)]
        self.ious[key] = ious[near]
        try:
            result: dict[str, Any] | None = super().evaluateImg(imgId, catId, aRng, maxDet)
        finally:
            self._dts[key], self.ious[key] = found, ious
        return self._with_far(key, aRng, maxDet, near, result)

    def _with_far(
        self,
        key: tuple[int, int],
        area_range: list[float],
        max_detections: int,
        near: NDArray[np.bool_],
        result: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """Put the detections that were left out back at their places: unmatched, ignored by area alone."""
        columns, thresholds = self._arrays[key], len(self.params.iouThrs)
        areas = columns["area"]
        matches = np.zeros((thresholds, len(areas)))
        ignored = np.empty((thresholds, len(areas)), bool)
        ignored[:] = (areas < area_range[0]) | (areas > area_range[1])
        if result is None:  # no truth box here, and so nothing near one
            nothing = np.zeros((thresholds, 0))
            result = {"gtIds": [], "gtMatches": nothing, "gtIgnore": np.zeros(0), "maxDet": max_detections}
            result |= {"image_id": key[0], "category_id": key[1], "aRng": area_range}
        else:
            matches[:, near], ignored[:, near] = result["dtMatches"], result["dtIgnore"]
        return result | {
            "dtIds": columns["id"],
            "dtScores": columns["score"],
            "dtMatches": matches,
            "dtIgnore": ignored,
        }


def _mean_of_defined(values: NDArray[np.float64]) -> float | None:
    defined = values[values > -1]
    return None if defined.size == 0 else float(math.fsum(defined.tolist()) / defined.size)
