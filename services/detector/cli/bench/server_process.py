"""Servers started for a benchmark: on a free loopback port, and stopped with all that they have started."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.detector.cli.bench.peers.catalogue import ROOT, PeerServer
from services.detector.cli.bench.peers.detection import (
    PORT_VARIABLE,
    SPEC_VARIABLE,
    THREADS_VARIABLE,
    GraphSpec,
)
from services.detector.cli.bench.process_tree import MARK, ProcessTree, new_mark

HOST = "127.0.0.1"
READY_DEADLINE_S = 90.0
STOP_DEADLINE_S = 30.0
_POLL_S = 0.01
_PORTS_OF_A_SERVER = 3  # a server may listen on the next two ports as well


class ServerNotReady(RuntimeError):
    """A server ended or was not ready in time; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A server that answers its readiness path with 200, and how long that took from its start."""

    port: int
    ready_s: float
    tree: ProcessTree

    @property
    def pid(self) -> int:
        return self.tree.pid


@contextlib.contextmanager
def start_detector(repository: Path, settings: Mapping[str, str]) -> Iterator[ServerProcess]:
    """Run `python -m services.detector` for the length of the block.

    `settings` are environment variables beside the repository and the port. Keys are taken out of the
    environment: the port is on loopback. Raises ServerNotReady.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:

        def environment(port: int) -> dict[str, str]:
            return {
                "SIGHTLINE_API_KEYS": "",
                "SIGHTLINE_VAR_DIR": folder,
                "SIGHTLINE_REPOSITORY_ROOT": str(repository),
                "SIGHTLINE_DETECTOR_HOST": HOST,
                "SIGHTLINE_DETECTOR_PORT": str(port),
                **settings,
            }

        command = [sys.executable, "-m", "services.detector"]
        with _started("the detector", lambda _: command, environment, "/readyz", Path(folder)) as server:
            yield server


@contextlib.contextmanager
def start_peer_server(
    peer: PeerServer, spec: GraphSpec, threads: int, environments: Path
) -> Iterator[ServerProcess]:
    """Run another server on the same graph for the length of the block. Raises ServerNotReady."""
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        described = Path(folder, "graph.json")
        described.write_text(spec.to_json())
        python = str(peer.python(environments.absolute()))

        def environment(port: int) -> dict[str, str]:
            return {
                "PYTHONPATH": str(ROOT),
                "PATH": f"{Path(python).parent}{os.pathsep}{os.environ.get('PATH', '')}",
                PORT_VARIABLE: str(port),
                SPEC_VARIABLE: str(described),
                THREADS_VARIABLE: str(threads),
                "HOME": folder,  # what a framework keeps for itself goes with the benchmark
                "TMPDIR": folder,
                "RAY_TMPDIR": folder,
                "BENTOML_DO_NOT_TRACK": "True",
            }

        start = _started(
            peer.title, lambda port: peer.command(python, port), environment, peer.ready_path, Path(folder)
        )
        with start as server:
            yield server


@contextlib.contextmanager
def _started(
    title: str,
    command: Callable[[int], list[str]],
    environment: Callable[[int], dict[str, str]],
    ready_path: str,
    folder: Path,
) -> Iterator[ServerProcess]:
    log, port, mark = folder / "server.log", _free_port(), new_mark()
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command(port),
            cwd=folder,
            env=os.environ | environment(port) | {MARK: mark},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    tree = ProcessTree(process.pid, mark)
    try:
        _wait_until_ready(title, process, port, ready_path, log)
        yield ServerProcess(port, time.perf_counter() - started, tree)
    finally:
        _stop(process, tree)


def _free_port() -> int:
    """Return a port that is free now, and so are the ones after it that a server may take."""
    while True:
        with contextlib.ExitStack() as held, contextlib.suppress(OSError, OverflowError):
            first = held.enter_context(socket.socket())
            first.bind((HOST, 0))
            port: int = first.getsockname()[1]
            for following in range(port + 1, port + _PORTS_OF_A_SERVER):
                held.enter_context(socket.socket()).bind((HOST, following))
            return port


def _wait_until_ready(
    title: str, process: subprocess.Popen[bytes], port: int, ready_path: str, log: Path
) -> None:
    give_up_at = time.monotonic() + READY_DEADLINE_S
    answer = "no answer"
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise ServerNotReady(f"{title} ended with status {process.returncode}:\n{_tail(log)}")
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=1)
            connection.request("GET", ready_path)
            response = connection.getresponse()
            answer = f"{response.status} {response.read().decode(errors='replace')}"
            if response.status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(_POLL_S)
    raise ServerNotReady(f"{title} was not ready after {READY_DEADLINE_S:g} s ({answer}):\n{_tail(log)}")


def _stop(process: subprocess.Popen[bytes], tree: ProcessTree) -> None:
    if process.poll() is None:
        tree.members()  # known now, so that none is left behind
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):  # whatever is left is killed
        process.wait(STOP_DEADLINE_S)
    tree.kill()
    process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
