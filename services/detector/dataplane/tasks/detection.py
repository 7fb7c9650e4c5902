"""Detection: decode and letterbox before the graph, thresholds and suppression after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.session import Tensors
from services.detector.dataplane.tasks.candidates import CandidateFilter, Overrides
from services.detector.dataplane.tasks.parameters import integer, number, refuse_unknown
from services.detector.dataplane.tasks.pictures import PictureInput
from shared.repository.manifest import Manifest
from shared.vision.boxes import Detections
from shared.vision.drawing import draw_detections, encode_jpeg
from shared.vision.letterbox import Letterbox


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """Detections in the pixels of the source picture, whose upright size is (height, width)."""

    detections: Detections
    size: tuple[int, int]
    annotated_jpeg: bytes | None


class DetectionTask:
    """Pre- and post-processing of one version, as its manifest states it."""

    name = "detection"

    def __init__(self, manifest: Manifest, *, max_pixels: int, jpeg_quality: int) -> None:
        self.labels = manifest.labels
        self.pictures = PictureInput(manifest, max_pixels=max_pixels)
        self._candidates = CandidateFilter(manifest)
        self._jpeg_quality = jpeg_quality

    def work(self, data: bytes, overrides: Overrides, *, annotate: bool = False) -> "DetectionWork":
        """Return the work on one encoded picture.

        Raises FixedSuppression where the request states an IoU threshold and suppression is in the graph.
        """
        self._candidates.check(overrides)
        return DetectionWork(self, data, overrides, annotate)

    def picture_tensors(self, data: bytes, parameters: Mapping[str, Any]) -> "DetectionTensorWork":
        """Return the work on one encoded picture whose answer is its detections as tensors.

        boxes float32 [1, K, 4] in pixels of the upright source picture, scores float32 [1, K], labels int64
        [1, K], best score first, and num_detections int64 [1], which is K. Raises WrongParameter and what
        `work` raises.
        """
        refuse_unknown(parameters, ("score_threshold", "iou_threshold", "max_detections"))
        overrides = Overrides(
            score_threshold=number(parameters, "score_threshold", least=0, most=1),
            iou_threshold=number(parameters, "iou_threshold", least=0, most=1),
            max_detections=integer(parameters, "max_detections", least=1, most=10_000),
        )
        return DetectionTensorWork(self.work(data, overrides))

    def detections(self, outputs: Tensors, geometry: Letterbox, overrides: Overrides) -> Detections:
        """Return what is left of one picture's candidates, in pixels of that picture.

        outputs: as CandidateFilter.keep has them.
        """
        kept = self._candidates.keep(outputs, overrides)
        return Detections(geometry.to_source(kept.boxes), kept.scores, kept.labels)

    def annotate(self, image: NDArray[np.uint8], detections: Detections) -> bytes:
        """Return the picture as a JPEG with the detections drawn in."""
        return encode_jpeg(draw_detections(image, detections, self.labels), self._jpeg_quality)


class DetectionWork:
    """One picture on its way through a batch: `prepare` before the graph, `finish` after it."""

    rows = 1

    def __init__(self, task: DetectionTask, data: bytes, overrides: Overrides, annotate: bool) -> None:
        self._task = task
        self._data = data
        self._overrides = overrides
        self._annotate = annotate
        self._image: NDArray[np.uint8] | None = None
        self._geometry: Letterbox | None = None

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        image = self._task.pictures.decode(self._data)
        inputs, self._geometry = self._task.pictures.letterbox(image)
        if self._annotate:
            self._image = image
        return inputs

    def finish(self, outputs: Tensors) -> DetectionResult:
        """Return the answer from this picture's rows of the graph's outputs."""
        geometry = self._geometry
        if geometry is None:
            raise RuntimeError("finish was called before prepare")
        detections = self._task.detections(outputs, geometry, self._overrides)
        jpeg = None if self._image is None else self._task.annotate(self._image, detections)
        return DetectionResult(detections, geometry.source_size, jpeg)


class DetectionTensorWork:
    """As DetectionWork, for clients that take tensors."""

    rows = 1

    def __init__(self, work: DetectionWork) -> None:
        self._work = work

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        return self._work.prepare()

    def finish(self, outputs: Tensors) -> Tensors:
        """Return the answer from this picture's rows of the graph's outputs."""
        found = self._work.finish(outputs).detections
        return {
            "boxes": found.boxes[None].astype(np.float32, copy=False),
            "scores": found.scores[None].astype(np.float32, copy=False),
            "labels": found.labels[None].astype(np.int64, copy=False),
            "num_detections": np.array([len(found)], np.int64),
        }
