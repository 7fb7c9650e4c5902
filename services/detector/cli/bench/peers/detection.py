"""Detection as one would write it by hand around ONNX Runtime; the bare loop and every peer do this.

Deliberately not the detector's own code: it is what that is measured against. Peers run it in environments
of their own, so it needs numpy, OpenCV, simplejpeg and onnxruntime and nothing else.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from shared.vision.boxes import Detections
from shared.vision.decode import decode_image
from shared.vision.letterbox import Letterbox, letterbox
from shared.vision.nms import nms

SPEC_VARIABLE = "SIGHTLINE_BENCH_GRAPH"
PORT_VARIABLE = "SIGHTLINE_BENCH_PORT"
THREADS_VARIABLE = "SIGHTLINE_BENCH_THREADS"


@dataclass(frozen=True, slots=True)
class GraphSpec:
    """What has to be known of an ONNX file to detect with it; sizes in pixels."""

    model: str  # path of the file
    input: str
    height: int
    width: int
    pad_value: int
    score_threshold: float
    iou_threshold: float
    max_detections: int
    labels: list[str]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, path: str) -> "GraphSpec":
        return cls(**json.loads(Path(path).read_text()))


def own_port() -> int:
    """Return the port that the benchmark gave this process to listen on."""
    return int(os.environ[PORT_VARIABLE])


def own_threads() -> int:
    """Return how many pictures the benchmark lets a server compute at once."""
    return int(os.environ[THREADS_VARIABLE])


def open_session(model: str, intra_op: int) -> ort.InferenceSession:
    """Open a session on the CPU with `intra_op` threads that do not spin while they wait."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Detector:
    """One graph that finds what is in pictures, from any number of threads at once."""

    def __init__(self, spec: GraphSpec, intra_op: int = 1) -> None:
        cv2.setNumThreads(1)  # the threads are the caller's; OpenCV's own would blur what a picture costs
        self.spec = spec
        self._session = open_session(spec.model, intra_op)

    @classmethod
    def of_this_process(cls) -> "Detector":
        """Return the detector that the benchmark's environment variables describe."""
        return cls(GraphSpec.read(os.environ[SPEC_VARIABLE]))

    def prepare(self, data: bytes) -> tuple[NDArray[np.uint8], Letterbox]:
        """Return the graph's input uint8 [height, width, 3] and the way back to the picture's pixels."""
        spec = self.spec
        return letterbox(decode_image(data), (spec.height, spec.width), pad_value=spec.pad_value)

    def detect(self, data: bytes) -> Detections:
        """Return what is in one encoded picture, in its own pixels. Raises ValueError for no picture."""
        spec = self.spec
        square, geometry = self.prepare(data)
        boxes, scores, labels = self._session.run(["boxes", "scores", "labels"], {spec.input: square[None]})
        kept = scores[0] >= spec.score_threshold
        boxes, scores, labels = boxes[0][kept], scores[0][kept], labels[0][kept]
        kept = nms(boxes, scores, labels, spec.iou_threshold, spec.max_detections)
        return Detections(geometry.to_source(boxes[kept]), scores[kept], labels[kept])

    def answer(self, data: bytes) -> dict[str, Any]:
        """Return the detections as the detector's own answers hold them, ready for JSON."""
        return {"detections": as_json(self.detect(data), self.spec.labels)}

    def answer_bytes(self, data: bytes) -> bytes:
        """Return `answer` as JSON."""
        return json.dumps(self.answer(data)).encode()


def as_json(found: Detections, names: list[str]) -> list[dict[str, Any]]:
    """Return detections for JSON: boxes to a thousandth of a pixel, scores to a millionth."""
    boxes, scores = found.boxes.astype("float64").round(3), found.scores.astype("float64").round(6)
    return [
        {
            "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
            "score": score,
            "label": names[label],
            "label_id": label,
        }
        for (x1, y1, x2, y2), score, label in zip(
            boxes.tolist(), scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
