"""Detection: decode and letterbox before the graph, thresholds and suppression after it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.problems import (
    EmptyPicture,
    FixedSuppression,
    InferenceFailed,
    NotAPicture,
    PictureTooLarge,
    TruncatedPicture,
)
from services.detector.dataplane.session import Tensors
from shared.repository.manifest import Manifest
from shared.vision.boxes import Detections
from shared.vision.decode import ImageTooLarge, NotAnImage, TruncatedImage, decode_image
from shared.vision.drawing import draw_detections, encode_jpeg
from shared.vision.letterbox import Letterbox, letterbox
from shared.vision.nms import nms


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a request asks for in place of the manifest's thresholds; None leaves the manifest's."""

    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_detections: int | None = None


@dataclass(frozen=True, slots=True)
class DetectionResult:
    """Detections in the pixels of the source picture, whose upright size is (height, width)."""

    detections: Detections
    size: tuple[int, int]
    annotated_jpeg: bytes | None


class DetectionTask:
    """Pre- and post-processing of one version, as its manifest states it."""

    def __init__(self, manifest: Manifest, *, max_pixels: int, jpeg_quality: int) -> None:
        preprocessing, thresholds = manifest.preprocessing, manifest.thresholds
        self.labels = manifest.labels
        self._input = manifest.inputs[0].name
        self._size = (preprocessing.height, preprocessing.width)
        self._pad_value = preprocessing.pad_value
        self._score_threshold = thresholds.score_threshold
        self._iou_threshold = thresholds.iou_threshold
        self._max_detections = thresholds.max_detections
        self._end_to_end = manifest.end_to_end
        self._max_pixels = max_pixels
        self._jpeg_quality = jpeg_quality

    def work(self, data: bytes, overrides: Overrides, *, annotate: bool = False) -> "DetectionWork":
        """Return the work on one encoded picture.

        Raises FixedSuppression where the request states an IoU threshold and suppression is in the graph.
        """
        if self._end_to_end and overrides.iou_threshold is not None:
            raise FixedSuppression(
                f"iou_threshold={overrides.iou_threshold:g} cannot be applied: non-maximum suppression is "
                f"inside this model's graph, at {self._iou_threshold:g}; leave the field out"
            )
        return DetectionWork(self, data, overrides, annotate)

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Return the picture uint8 [H, W, 3] RGB, or raise the problem with it."""
        if not data:
            raise EmptyPicture("there are no bytes; send a JPEG, PNG, WebP or BMP picture as the body")
        try:
            return decode_image(data, max_pixels=self._max_pixels)
        except ImageTooLarge as error:
            raise PictureTooLarge(str(error), limit_pixels=self._max_pixels) from error
        except TruncatedImage as error:
            raise TruncatedPicture(str(error)) from error
        except NotAnImage as error:
            raise NotAPicture(str(error)) from error

    def letterbox(self, image: NDArray[np.uint8]) -> tuple[Tensors, Letterbox]:
        """Return the graph's input uint8 [1, height, width, 3] and the geometry that leads back."""
        square, geometry = letterbox(image, self._size, pad_value=self._pad_value)
        return {self._input: square[None]}, geometry

    def detections(self, outputs: Tensors, geometry: Letterbox, overrides: Overrides) -> Detections:
        """Return what is left of one picture's candidates after thresholds and suppression.

        outputs: boxes float32 [1, K, 4] in input pixels, scores float32 [1, K], labels int64 [1, K], and
        with suppression in the graph num_detections int64 [1].
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
        if len(kept) and not 0 <= kept.labels.min() <= kept.labels.max() < len(self.labels):
            raise InferenceFailed(
                f"the model answered with label {kept.labels.max()} and has {len(self.labels)} names; "
                "export it again"
            )
        return Detections(geometry.to_source(kept.boxes), kept.scores, kept.labels)

    def annotate(self, image: NDArray[np.uint8], detections: Detections) -> bytes:
        """Return the picture as a JPEG with the detections drawn in."""
        return encode_jpeg(draw_detections(image, detections, self.labels), self._jpeg_quality)


class DetectionWork:
    """One picture on its way through a batch: `prepare` before the graph, `finish` after it."""

    def __init__(self, task: DetectionTask, data: bytes, overrides: Overrides, annotate: bool) -> None:
        self._task = task
        self._data = data
        self._overrides = overrides
        self._annotate = annotate
        self._image: NDArray[np.uint8] | None = None
        self._geometry: Letterbox | None = None

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        image = self._task.decode(self._data)
        inputs, self._geometry = self._task.letterbox(image)
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


def _first(asked: Any, default: Any) -> Any:
    return default if asked is None else asked
