"""A detector on a free port of this machine, in a thread of the test or in a process of its own."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

from services.detector.dataplane.session import Session, Tensors
from services.detector.main import create_app
from services.detector.settings import DetectorSettings
from shared.core.server import server_config
from shared.core.settings import CommonSettings

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True)
class Served:
    """A running detector and a client to call it with."""

    url: str
    client: httpx.Client

    def detect(self, data: bytes, model: str = "tiny", **query: Any) -> httpx.Response:
        return self.client.post(f"/v1/models/{model}/detect", content=data, params=query)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum over the samples with these labels."""
        families = text_string_to_metric_families(self.client.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def ready(self) -> tuple[int, dict[str, Any]]:
        response = self.client.get("/readyz")
        return response.status_code, response.json()


@dataclass(frozen=True, slots=True)
class Gate:
    """Holds every run of a model back while it is closed, so that a test need not be quick."""

    opened: threading.Event

    def close(self) -> None:
        self.opened.clear()

    def open(self) -> None:
        self.opened.set()


@contextlib.contextmanager
def gated(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Put a gate, open at first, before the runs of every session in this process."""
    gate = Gate(threading.Event())
    gate.open()
    run = Session.run

    def run_behind_gate(session: Session, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        assert gate.opened.wait(30), "the test left its gate closed"
        return run(session, inputs)

    monkeypatch.setattr(Session, "run", run_behind_gate)
    try:
        yield gate
    finally:
        gate.open()


def until(condition: Callable[[], Any], *, seconds: float = 10.0) -> Any:
    """Return the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"still {value!r} after {seconds} s"
        time.sleep(0.01)
    return value


def ready_status(served: Served) -> int:
    return served.ready()[0]


@contextlib.contextmanager
def serving(repository_root: Path, *, wait_ready: bool = True, **settings: Any) -> Iterator[Served]:
    """Serve a repository from this process; `settings` are those of DetectorSettings."""
    settings = {"poll_interval_s": 0.02, "instances": 2, "drain_s": 5.0} | settings
    app = create_app(CommonSettings(repository_root=repository_root), DetectorSettings(**settings))
    server = uvicorn.Server(server_config(app, drain_s=settings["drain_s"]))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        until(lambda: server.started)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        limits = httpx.Limits(max_connections=200)
        with httpx.Client(base_url=url, timeout=30, limits=limits, trust_env=False) as client:
            served = Served(url, client)
            if wait_ready:
                until(lambda: ready_status(served) == 200)
            yield served
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive(), "the server did not stop"


@contextlib.contextmanager
def serving_process(
    repository_root: Path, port: int, **environment: str
) -> Iterator[tuple[subprocess.Popen[bytes], Served]]:
    """Serve a repository by `python -m services.detector`, ready when this yields."""
    variables = {
        "SIGHTLINE_REPOSITORY_ROOT": str(repository_root),
        "SIGHTLINE_DETECTOR_PORT": str(port),
        "SIGHTLINE_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.detector"], cwd=ROOT, env={**os.environ, **variables, **environment}
    )
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            served = Served(url, client)
            until(lambda: answers(served))
            yield process, served
    finally:
        process.kill()
        process.wait()


def answers(served: Served) -> bool:
    try:
        return ready_status(served) == 200
    except httpx.TransportError:
        return False
