"""Labels of whole pictures, as `sightline predict` writes and draws them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.cli.predictors import Asked, UnsupportedAnswer
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.tasks.classification import ClassificationTask, Heatmap, LabelOverrides
from services.detector.settings import DetectorSettings
from shared.repository.manifest import Manifest
from shared.vision.drawing import draw_captions
from shared.vision.heatmap import draw_heat
from shared.vision.letterbox import Letterbox


@dataclass(frozen=True, slots=True)
class FoundLabels:
    """The labels of one picture of `width` x `height` pixels, and the model version that gave them.

    labels: every label in the order of label_id, as the detector's HTTP answers state them. heat: float32
    [height, width] in 0..1 of the strongest label that is present; heated: the picture under it, where the
    server drew it. Both are None where no label is present, or none was asked for.
    """

    labels: list[dict[str, Any]]
    width: int
    height: int
    version: int
    heat: NDArray[np.float32] | None = None
    heated: NDArray[np.uint8] | None = None

    @property
    def present(self) -> list[dict[str, Any]]:
        """The labels that are present, the most probable first."""
        present = [label for label in self.labels if label["present"]]
        return sorted(present, key=lambda label: -float(label["probability"]))

    @property
    def found(self) -> int:
        return len(self.present)

    def describe(self) -> list[dict[str, Any]]:
        """Return every label with its probability, threshold and whether it is present."""
        return self.labels

    def draw(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the picture with the present labels written in, and under the heat where there is one."""
        ground = self.heated if self.heated is not None else rgb
        if self.heat is not None:
            ground = draw_heat(rgb, self.heat)
        captions = [f"{label['label']} {label['probability']:.2f}" for label in self.present]
        return draw_captions(
            ground, captions or ["no label"], [label["label_id"] for label in self.present] or [1]
        )


class LocalLabels:
    """Makes labels of a graph's outputs. Raises NoActivationMaps for heat maps that cannot be drawn."""

    finds = "labels"

    def __init__(self, manifest: Manifest, settings: DetectorSettings, asked: Asked) -> None:
        self._overrides = LabelOverrides(**label_thresholds(asked.thresholds))
        self._task = ClassificationTask(
            manifest, max_pixels=settings.max_pixels, jpeg_quality=settings.jpeg_quality
        )
        if asked.heatmap:
            self._task.check_heatmap(Heatmap())
        self._heatmap = asked.heatmap
        self._version = manifest.version
        self.pictures = self._task.pictures

    def answer(self, outputs: Tensors, geometry: Letterbox) -> FoundLabels:
        """Return what one picture's outputs say. Raises InferenceFailed."""
        result = self._task.classify(outputs, geometry, self._overrides)
        height, width = result.size
        answer = FoundLabels(self._task.describe(result), width, height, self._version)
        if not self._heatmap or not answer.present:
            return answer
        shown = Heatmap(answer.present[0]["label"])
        heat = self._task.classify(outputs, geometry, self._overrides, shown).heat
        return FoundLabels(answer.labels, width, height, self._version, heat=heat)


class RemoteLabels:
    """How a detector is asked for labels, and its answers read."""

    finds = "labels"
    endpoint = "classify"

    def __init__(self, asked: Asked) -> None:
        self.query: Mapping[str, float | int] = label_thresholds(asked.thresholds)
        self.heatmap = asked.heatmap

    def read(self, answer: dict[str, Any]) -> FoundLabels:
        """Return one picture's answer."""
        size = answer["image"]
        return FoundLabels(answer["labels"], size["width"], size["height"], answer["version"])


def label_thresholds(asked: Mapping[str, float | int]) -> dict[str, float]:
    """Return --score-threshold under the name it has here. Raises UnsupportedAnswer for detection's own."""
    foreign = [name for name in asked if name != "score_threshold"]
    if foreign:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
        raise UnsupportedAnswer(f"{options} is of detection models; this one labels whole pictures")
    return {"threshold": float(asked["score_threshold"])} if asked else {}
