"""The least that labelling a picture can cost: decode, letterbox, one ONNX Runtime session. No service.

The counterpart of bare_loop for classification models, and used like it: `python -m
services.detector.cli.bench.bare_labels FOLDER INTRA_OP MODEL…`. It answers

- {"model": index, "threads", "count"} -> {"latencies_ms": [...], "wall_s": ...}
- {"model": index, "labels": true} -> {"present": [for each picture, for each label whether it is present]}
"""

import json
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.cli.bench.bare_loop import run_threads
from services.detector.cli.bench.peers.detection import open_session
from services.detector.cli.bench.pictures import read_pictures
from shared.repository.manifest import MANIFEST_FILE, MODEL_FILE, LabelThresholds, Manifest, Preprocessing
from shared.vision.decode import decode_image
from shared.vision.letterbox import letterbox


class Labeller:
    """One graph that labels pictures, from any number of threads at once."""

    def __init__(self, version: Path, intra_op: int) -> None:
        cv2.setNumThreads(1)  # the threads are the caller's
        self._manifest = Manifest.model_validate_json((version / MANIFEST_FILE).read_bytes())
        self._session = open_session(str(version / MODEL_FILE), intra_op)
        thresholds = self._manifest.thresholds
        assert isinstance(thresholds, LabelThresholds)  # the manifest refuses a classification model without
        self._thresholds = np.array(thresholds.probability, np.float32)

    def detect(self, data: bytes) -> NDArray[np.bool_]:
        """Return which labels one encoded picture holds, bool [C]."""
        preprocessing = self._manifest.preprocessing
        assert isinstance(preprocessing, Preprocessing)  # the manifest refuses a picture model without
        size = (preprocessing.height, preprocessing.width)
        pixels, _ = letterbox(decode_image(data), size, pad_value=preprocessing.pad_value)
        (probabilities,) = self._session.run(["probabilities"], {self._manifest.inputs[0].name: pixels[None]})
        present: NDArray[np.bool_] = probabilities[0] >= self._thresholds
        return present


def obey(command: dict[str, Any], labellers: list[Labeller], pictures: list[bytes]) -> dict[str, Any]:
    """Return the answer to one command."""
    labeller = labellers[command["model"]]
    if "labels" in command:
        return {"present": [labeller.detect(data).tolist() for data in pictures]}
    return run_threads(labeller, islice(cycle(pictures), command["count"]), command["threads"])


def main(folder: Path, intra_op: int, versions: list[Path]) -> None:
    """Open every version's session, then answer commands from standard input until it closes."""
    pictures = read_pictures(folder)
    labellers = [Labeller(version, intra_op) for version in versions]
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line), labellers, pictures)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
