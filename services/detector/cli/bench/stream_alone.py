"""A stream model run by itself: one ONNX Runtime session, one recording, window after window. No service."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.detector.cli.bench.peers.detection import open_session
from shared.repository.manifest import MANIFEST_FILE, MODEL_FILE, EventPreprocessing, Manifest, Thresholds
from shared.vision.boxes import Detections, clip_boxes
from shared.vision.event_stacks import REPRESENTATIONS
from shared.vision.events import Events
from shared.vision.nms import nms


@dataclass(frozen=True, slots=True)
class StreamModel:
    """What has to be known of a version to run it."""

    file: Path
    manifest: Manifest
    preprocessing: EventPreprocessing
    thresholds: Thresholds

    @property
    def sensor(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.preprocessing.sensor_height, self.preprocessing.sensor_width

    @property
    def window_us(self) -> int:
        return self.preprocessing.window_ms * 1000


def read_stream_model(version: Path) -> StreamModel:
    """Return the version in a folder of a repository; it has to be a stream model."""
    manifest = Manifest.model_validate_json((version / MANIFEST_FILE).read_bytes())
    preprocessing, thresholds = manifest.preprocessing, manifest.thresholds
    assert isinstance(preprocessing, EventPreprocessing)  # the command refused other tasks
    assert isinstance(thresholds, Thresholds)
    return StreamModel(version / MODEL_FILE, manifest, preprocessing, thresholds)


class AloneRunner:
    """Runs recordings one at a time, each from states of zero."""

    def __init__(self, model: StreamModel, intra_op: int = 1) -> None:
        self._model = model
        self._session = open_session(str(model.file), intra_op)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._represent = REPRESENTATIONS.load(model.preprocessing.representation)(
            bins=model.preprocessing.bins
        )

    def run(self, events: Events, windows: int) -> list[Detections]:
        """Return the detections of the first `windows` windows of a recording that begins at time 0."""
        model, manifest = self._model, self._model.manifest
        names = {state.input: state.output for state in manifest.states}
        states = {
            spec.name: np.zeros((1, *spec.shape[1:]), spec.dtype)
            for spec in manifest.inputs
            if spec.name in names
        }
        (window_input,) = (spec.name for spec in manifest.inputs if spec.name not in names)
        found = []
        for index in range(windows):
            start = index * model.window_us
            window = events.between(start, start + model.window_us)
            histogram = self._represent(window, model.sensor, half=model.preprocessing.halved)
            values = self._session.run(self._outputs, {window_input: histogram[None], **states})
            outputs = dict(zip(self._outputs, values, strict=True))
            states = {name: outputs[output] for name, output in names.items()}
            found.append(self._detections(outputs["boxes"][0], outputs["scores"][0], outputs["labels"][0]))
        return found

    def _detections(self, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Detections:
        thresholds = self._model.thresholds
        chosen = scores >= thresholds.score_threshold
        boxes, scores, labels = boxes[chosen], scores[chosen], labels[chosen]
        best = nms(boxes, scores, labels, thresholds.iou_threshold, thresholds.max_detections)
        on_sensor = boxes[best] * np.float32(2 if self._model.preprocessing.halved else 1)
        return Detections(clip_boxes(on_sensor, *self._model.sensor), scores[best], labels[best])
