"""The least that serving a detection can cost: decode, letterbox, one ONNX Runtime session, NMS. No service.

Runs as a process of its own (`python -m services.detector.cli.bench.bare_loop FOLDER INTRA_OP MODEL…`), so
that its CPU time can be read like the server's. Reads one JSON command per line, {"model": index, "threads",
"count"}, and answers each with one line: {"latencies_ms": [...], "wall_s": ...}.
"""

import json
import sys
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import onnxruntime as ort

from services.detector.cli.bench.pictures import read_pictures
from shared.repository.manifest import Manifest, Thresholds
from shared.vision.boxes import Detections
from shared.vision.decode import decode_image
from shared.vision.letterbox import letterbox
from shared.vision.nms import nms


def open_session(model: Path, intra_op: int) -> ort.InferenceSession:
    """Open a session on the CPU with `intra_op` threads that do not spin while they wait."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = intra_op
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def detect(session: ort.InferenceSession, manifest: Manifest, data: bytes) -> Detections:
    """Run one encoded picture through the model; boxes come back in its own pixels.

    Deliberately not the detector's own code: it is what that is measured against.
    """
    preprocessing, thresholds = manifest.preprocessing, manifest.thresholds
    assert isinstance(thresholds, Thresholds)
    image = decode_image(data)
    square, geometry = letterbox(
        image, (preprocessing.height, preprocessing.width), pad_value=preprocessing.pad_value
    )
    boxes, scores, labels = session.run(
        ["boxes", "scores", "labels"], {manifest.inputs[0].name: square[None]}
    )
    kept = scores[0] >= thresholds.score_threshold
    boxes, scores, labels = boxes[0][kept], scores[0][kept], labels[0][kept]
    kept = nms(boxes, scores, labels, thresholds.iou_threshold, thresholds.max_detections)
    return Detections(geometry.to_source(boxes[kept]), scores[kept], labels[kept])


def run_threads(
    session: ort.InferenceSession, manifest: Manifest, pictures: list[bytes], threads: int, count: int
) -> dict[str, Any]:
    """Detect on `count` pictures, taken in turn by `threads` threads over the one session."""
    queue = islice(cycle(pictures), count)
    turn = threading.Lock()
    latencies_ms: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            while True:
                with turn:
                    data = next(queue, None)
                if data is None:
                    return
                started = time.perf_counter()
                detect(session, manifest, data)
                latencies_ms.append((time.perf_counter() - started) * 1000)
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failures.append(error)

    started = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return {"latencies_ms": latencies_ms, "wall_s": time.perf_counter() - started}


def main(folder: Path, intra_op: int, versions: list[Path]) -> None:
    """Open every version's session, then answer commands from standard input until it closes."""
    cv2.setNumThreads(1)  # the threads are ours; OpenCV's own would blur what one image costs
    pictures = read_pictures(folder)
    opened = [
        (
            open_session(version / "model.onnx", intra_op),
            Manifest.model_validate_json((version / "manifest.json").read_bytes()),
        )
        for version in versions
    ]
    for line in sys.stdin:
        command = json.loads(line)
        session, manifest = opened[command["model"]]
        print(
            json.dumps(run_threads(session, manifest, pictures, command["threads"], command["count"])),
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
