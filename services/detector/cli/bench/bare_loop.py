"""The least that serving a detection can cost: decode, letterbox, one ONNX Runtime session, NMS. No service.

Runs as a process of its own (`python -m services.detector.cli.bench.bare_loop FOLDER INTRA_OP MODEL…`, each
model a repository version), so that its CPU time can be read like a server's. Reads one JSON command per line
and answers each with one line:

- {"model": index, "threads", "count" or "seconds"} -> {"latencies_ms": [...], "wall_s": ...}
- {"model": index, "detect": true} -> {"answers": [detections of each picture]}
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

from services.detector.cli.bench.model import graph_spec
from services.detector.cli.bench.peers.detection import Detector, as_json
from services.detector.cli.bench.pictures import read_pictures


class Detects(Protocol):
    """Whatever answers one encoded picture."""

    def detect(self, data: bytes) -> object: ...


def run_threads(detector: Detects, pictures: Iterator[bytes], threads: int) -> dict[str, Any]:
    """Detect on every picture, taken in turn by `threads` threads over the one session."""
    turn = threading.Lock()
    latencies_ms: list[float] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            while True:
                with turn:
                    data = next(pictures, None)
                if data is None:
                    return
                started = time.perf_counter()
                detector.detect(data)
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


def until(pictures: Iterator[bytes], seconds: float) -> Iterator[bytes]:
    """Yield pictures until `seconds` have passed."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        yield next(pictures)


def obey(command: dict[str, Any], detectors: list[Detector], pictures: list[bytes]) -> dict[str, Any]:
    """Return the answer to one command."""
    detector = detectors[command["model"]]
    if "detect" in command:
        return {"answers": [as_json(detector.detect(data), detector.spec.labels) for data in pictures]}
    turns = cycle(pictures)
    chosen = until(turns, command["seconds"]) if "seconds" in command else islice(turns, command["count"])
    return run_threads(detector, chosen, command["threads"])


def main(folder: Path, intra_op: int, versions: list[Path]) -> None:
    """Open every version's session, then answer commands from standard input until it closes."""
    pictures = read_pictures(folder)
    detectors = [Detector(graph_spec(version), intra_op) for version in versions]
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line), detectors, pictures)), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), [Path(argument) for argument in sys.argv[3:]])
