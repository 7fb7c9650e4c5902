"""A detector started for a benchmark: its own process, on a free loopback port, on a given repository."""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HOST = "127.0.0.1"
READY_DEADLINE_S = 60.0
STOP_DEADLINE_S = 30.0
_POLL_S = 0.01


class DetectorNotReady(RuntimeError):
    """The detector ended or was not ready in time; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class DetectorProcess:
    """A detector that answers /readyz with 200, and how long that took from the start of the process."""

    pid: int
    port: int
    ready_s: float


@contextlib.contextmanager
def start_detector(repository: Path, settings: dict[str, str]) -> Iterator[DetectorProcess]:
    """Run `python -m services.detector` for the length of the block.

    `settings` are environment variables beside the repository and the port. Keys are taken out of the
    environment: the port is on loopback. Raises DetectorNotReady.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        log = Path(folder, "detector.log")
        port = _free_port()
        environment = os.environ | {
            "SIGHTLINE_API_KEYS": "",
            "SIGHTLINE_VAR_DIR": folder,
            "SIGHTLINE_REPOSITORY_ROOT": str(repository),
            "SIGHTLINE_DETECTOR_HOST": HOST,
            "SIGHTLINE_DETECTOR_PORT": str(port),
        }
        with log.open("wb") as output:
            started = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "services.detector"],
                env=environment | settings,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_ready(process, port, log)
            yield DetectorProcess(process.pid, port, time.perf_counter() - started)
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up_at = time.monotonic() + READY_DEADLINE_S
    answer = "no answer"
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise DetectorNotReady(f"the detector ended with status {process.returncode}:\n{_tail(log)}")
        try:
            connection = http.client.HTTPConnection(HOST, port, timeout=1)
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            answer = f"{response.status} {response.read().decode(errors='replace')}"
            if response.status == 200:
                return
        except OSError:
            pass  # not listening yet
        finally:
            connection.close()
        time.sleep(_POLL_S)
    raise DetectorNotReady(
        f"the detector was not ready after {READY_DEADLINE_S:g} s ({answer}):\n{_tail(log)}"
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])
