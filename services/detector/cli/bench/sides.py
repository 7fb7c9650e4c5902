"""What is measured side by side: this server, the peers, and the bare loops that all are measured against."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.detector.cli.bench.environments import why_not_usable
from services.detector.cli.bench.measuring import MeasuringProcess
from services.detector.cli.bench.model import graph_spec
from services.detector.cli.bench.peers.catalogue import PEERS, PeerServer
from services.detector.cli.bench.server_process import ServerProcess, start_detector, start_peer_server
from shared.repository.repository import ModelRepository

SIGHTLINE = "sightline"
INT8 = "sightline-int8"
ANSWER_DEADLINE_S = 600.0
# Servers round boxes to a thousandth of a pixel and scores to a millionth; threads add a little of their own.
BOX_TOLERANCE_PX = 0.01
SCORE_TOLERANCE = 1e-4


class SideFailed(RuntimeError):
    """A server did not answer, or otherwise than the bare loop; the message says how."""


@dataclass(frozen=True, slots=True)
class Side:
    """One server to measure. `unusable` says why it cannot be started here; None if it can."""

    name: str
    title: str
    start: Callable[[], contextlib.AbstractContextManager[ServerProcess]]
    target: str
    protocol: str = "picture"
    unusable: str | None = None
    compared: bool = True  # with the bare loop's answers, which come from the fp32 version


def detector_side(
    repository: ModelRepository,
    model: str,
    version: int,
    settings: Mapping[str, str],
    *,
    name: str = SIGHTLINE,
    title: str = "Sightline",
) -> Side:
    """Return this project's server on a repository of its own."""
    return Side(
        name,
        title,
        lambda: start_detector(repository.root, settings),
        f"/v1/models/{model}/versions/{version}/detect",
        compared=name == SIGHTLINE,
    )


def peer_side(peer: PeerServer, version: Path, threads: int, environments: Path) -> Side:
    """Return another server on the same ONNX file."""
    return Side(
        peer.name,
        peer.title,
        lambda: start_peer_server(peer, graph_spec(version), threads, environments),
        peer.target,
        peer.protocol,
        why_not_usable(peer, environments),
    )


def known_sides() -> list[str]:
    """Return the names that `--only` takes."""
    return [SIGHTLINE, *PEERS]


@dataclass(frozen=True, slots=True)
class Load:
    """The load generator, and the server that it sends to."""

    process: MeasuringProcess
    server: ServerProcess
    side: Side

    def closed(self, concurrency: int, seconds: float) -> dict[str, Any]:
        """Keep `concurrency` requests in flight; see `load.closed_loop`."""
        return self._ask(concurrency=concurrency, seconds=seconds)

    def open(self, rate: float, seconds: float, connections: int) -> dict[str, Any]:
        """Send at `rate` whatever is answered; see `load.open_loop`."""
        return self._ask(rate=rate, seconds=seconds, connections=connections)

    def detections(self) -> list[list[dict[str, Any]]]:
        """Return what the server finds in each picture, asked one by one."""
        documents = (json.loads(body) for body in self._ask(bodies=True)["bodies"])
        if self.side.protocol == "v2":
            documents = (json.loads(document["outputs"][0]["data"][0]) for document in documents)
        return [document["detections"] for document in documents]

    def _ask(self, **command: Any) -> dict[str, Any]:
        answer = self.process.ask(
            ANSWER_DEADLINE_S,
            port=self.server.port,
            target=self.side.target,
            protocol=self.side.protocol,
            **command,
        )
        if "error" in answer:
            raise SideFailed(f"{self.side.title}: {answer['error']}")
        return answer


def difference(
    found: list[dict[str, Any]],
    expected: list[dict[str, Any]],
    *,
    box_px: float = BOX_TOLERANCE_PX,
    score: float = SCORE_TOLERANCE,
) -> str | None:
    """Return how two lists of detections differ beyond the tolerances, None if they do not."""
    if len(found) != len(expected):
        return f"{len(found)} detections, expected {len(expected)}"
    for number, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        if mine["label"] != theirs["label"] or mine["label_id"] != theirs["label_id"]:
            return f"detection {number} is {mine['label']!r}, expected {theirs['label']!r}"
        if abs(mine["score"] - theirs["score"]) > score:
            return f"detection {number} has the score {mine['score']}, expected {theirs['score']}"
        off = max(abs(mine["box"][corner] - theirs["box"][corner]) for corner in ("x1", "y1", "x2", "y2"))
        if off > box_px:
            return f"the box of detection {number} is {off:.3f} px away from the expected one"
    return None


def check_answers(load: Load, expected: list[list[dict[str, Any]]]) -> None:
    """Compare the server's answer to every picture with the bare loop's. Raises SideFailed."""
    for number, (found, wanted) in enumerate(zip(load.detections(), expected, strict=True)):
        if wrong := difference(found, wanted):
            raise SideFailed(f"{load.side.title} answers picture {number} otherwise: {wrong}")


@contextlib.contextmanager
def serving(side: Side, load: MeasuringProcess) -> Iterator[Load]:
    """Start the side's server for the length of the block. Raises ServerNotReady."""
    with side.start() as server:
        yield Load(load, server, side)
