"""Boxes with labels, as `sightline predict` writes and draws them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.cli.predictors import Asked, UnsupportedAnswer
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.dataplane.tasks.detection import DetectionTask
from services.detector.settings import DetectorSettings
from shared.repository.manifest import Manifest
from shared.vision.boxes import Detections
from shared.vision.drawing import draw_detections
from shared.vision.letterbox import Letterbox


@dataclass(frozen=True, slots=True)
class FoundDetections:
    """What was found in one picture of `width` x `height` pixels, and the model version that found it.

    `labels` are that version's class names, which `detections.labels` index.
    """

    detections: Detections
    labels: Sequence[str]
    width: int
    height: int
    version: int

    @property
    def found(self) -> int:
        return len(self.detections)

    def describe(self) -> list[dict[str, Any]]:
        """Return the detections as the detector's HTTP answers state them, best score first.

        Boxes are in pixels, to a thousandth; scores to a millionth.
        """
        found = self.detections
        boxes, scores = found.boxes.astype("float64").round(3), found.scores.astype("float64").round(6)
        return [
            {
                "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
                "score": score,
                "label": self.labels[label],
                "label_id": label,
            }
            for (x1, y1, x2, y2), score, label in zip(
                boxes.tolist(), scores.tolist(), found.labels.tolist(), strict=True
            )
        ]

    def draw(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture with boxes, labels and scores."""
        return draw_detections(rgb, self.detections, self.labels)


class LocalDetections:
    """Makes detections of a graph's outputs; raises FixedSuppression for a threshold it cannot apply."""

    finds = "detections"

    def __init__(self, manifest: Manifest, settings: DetectorSettings, asked: Asked) -> None:
        refuse_heatmap(asked)
        self._task = DetectionTask(
            manifest, max_pixels=settings.max_pixels, jpeg_quality=settings.jpeg_quality
        )
        self._overrides = Overrides(**asked.thresholds)  # type: ignore[arg-type]
        self._task.work(
            b"", self._overrides
        )  # refuses what this version cannot do, before any picture is read
        self._version = manifest.version
        self.pictures = self._task.pictures

    def answer(self, outputs: Tensors, geometry: Letterbox) -> FoundDetections:
        """Return what one picture's outputs say. Raises InferenceFailed."""
        height, width = geometry.source_size
        found = self._task.detections(outputs, geometry, self._overrides)
        return FoundDetections(found, self._task.labels, width, height, self._version)


class RemoteDetections:
    """How a detector is asked for detections, and its answers read."""

    finds = "detections"
    endpoint = "detect"
    heatmap = False

    def __init__(self, asked: Asked) -> None:
        refuse_heatmap(asked)
        self.query = asked.thresholds

    def read(self, answer: dict[str, Any]) -> FoundDetections:
        """Return one picture's answer."""
        found = answer["detections"]
        names = {one["label_id"]: one["label"] for one in found}
        boxes = [[one["box"][side] for side in ("x1", "y1", "x2", "y2")] for one in found]
        return FoundDetections(
            Detections(
                np.array(boxes, dtype=np.float32).reshape(-1, 4),
                np.array([one["score"] for one in found], dtype=np.float32),
                np.array([one["label_id"] for one in found], dtype=np.int64),
            ),
            [names.get(label, str(label)) for label in range(max(names, default=-1) + 1)],
            answer["image"]["width"],
            answer["image"]["height"],
            answer["version"],
        )


def refuse_heatmap(asked: Asked) -> None:
    """Raise UnsupportedAnswer where a heat map is asked of a model that draws boxes."""
    if asked.heatmap:
        raise UnsupportedAnswer("--heatmap is of classification models; this one draws boxes")
