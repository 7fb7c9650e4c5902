"""Which servers the detector is compared with, how each is started and how it is spoken to."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

Protocol = Literal["picture", "v2"]  # the JPEG as the body, or inside a JSON request of the V2 protocol

ROOT = Path(__file__).parents[5]
PACKAGE = "services.detector.cli.bench.peers"


@dataclass(frozen=True, slots=True)
class PeerServer:
    """One server: `command(python, port)` starts it, and it is ready once `ready_path` answers 200.

    `requirements` is the list of packages of its own environment; None where this one has them all.
    """

    name: str
    title: str
    command: Callable[[str, int], list[str]]
    target: str
    ready_path: str
    requirements: Path | None
    protocol: Protocol = "picture"

    def python(self, environments: Path) -> Path:
        """Return the interpreter that runs it; `environments` is the folder of all peers' environments."""
        return Path(sys.executable) if self.requirements is None else environments / self.name / "bin/python"


def _module(name: str) -> Callable[[str, int], list[str]]:
    return lambda python, _: [python, "-m", f"{PACKAGE}.{name}"]


def _bentoml(python: str, port: int) -> list[str]:
    service = f"{PACKAGE}.bentoml_app:Detect"
    return [python, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]


def _requirements(name: str) -> Path:
    return Path(__file__).with_name(f"{name}.txt")


PEERS: Mapping[str, PeerServer] = MappingProxyType(
    {
        peer.name: peer
        for peer in (
            PeerServer("fastapi", "plain FastAPI", _module("fastapi_app"), "/detect", "/health", None),
            PeerServer(
                "litserve",
                "LitServe",
                _module("litserve_app"),
                "/detect",
                "/health",
                _requirements("litserve"),
            ),
            PeerServer(
                "mlserver",
                "MLServer",
                _module("mlserver_app"),
                "/v2/models/detect/infer",
                "/v2/models/detect/ready",
                _requirements("mlserver"),
                "v2",
            ),
            PeerServer("bentoml", "BentoML", _bentoml, "/detect", "/readyz", _requirements("bentoml")),
            PeerServer("rayserve", "Ray Serve", _module("rayserve_app"), "/", "/", _requirements("rayserve")),
        )
    }
)
