"""Starts processes, sees that they answer, starts again what fell over, and stops what it started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx

from shared.cli.stack import ProcessSpec
from shared.core.logging import get_logger

logger = get_logger(__name__)

_RESTARTS_AT_MOST = 5
_QUIET_AGAIN_AFTER_S = 60.0  # a process that ran this long starts with a fresh count


class StartFailed(RuntimeError):
    """A process ended, or did not answer in time, while the stack was starting."""


@dataclass
class _Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes]
    log_path: Path
    started_at: float
    restarts: int = 0
    restart_at: float | None = None  # planned, of a process that has ended


def log_tail(path: Path, lines: int = 12) -> str:
    """Return the last lines of a log, which is where a process says why it fell over."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])


class Supervisor:
    """Owns the processes of one stack; as a context manager it stops them, last started first.

    What ends is started again after `pause_s` seconds, and after twice as long every further time.
    """

    def __init__(self, log_dir: Path, *, pause_s: float = 0.5) -> None:
        self._log_dir = log_dir
        self._pause_s = pause_s
        self._children: list[_Child] = []
        log_dir.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {child.spec.name: child.process.pid for child in self._children}

    def start(
        self, spec: ProcessSpec, *, within_s: float, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        """Start a process and wait until it answers or `should_stop`.

        Raises StartFailed with the end of its log.
        """
        if spec.url and _is_taken(spec.url):
            raise StartFailed(
                f"{spec.name}: something already answers at {spec.url}; stop it, or give another address"
            )
        child = _Child(spec, *self._spawn(spec), started_at=time.monotonic())
        self._children.append(child)
        deadline = child.started_at + within_s
        while not should_stop() and not _answers(spec):
            if (code := child.process.poll()) is not None:
                raise StartFailed(f"{spec.name} ended with status {code}:\n{log_tail(child.log_path)}")
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"{spec.name} did not answer within {within_s:g} s:\n{log_tail(child.log_path)}"
                )
            time.sleep(0.05)

    def _spawn(self, spec: ProcessSpec) -> tuple[subprocess.Popen[bytes], Path]:
        log_path = self._log_dir / f"{spec.name}.log"
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                spec.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | spec.environment,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops in order
            )
        return process, log_path

    def watch(self, should_stop: Callable[[], bool], *, every_s: float = 0.5) -> None:
        """Start again what falls over until `should_stop`; raises StartFailed for what keeps falling."""
        while not should_stop():
            for child in self._children:
                if child.process.poll() is None:
                    continue
                if child.restart_at is None:
                    child.restart_at = self._plan_restart(child)
                if time.monotonic() >= child.restart_at:
                    child.process, child.log_path = self._spawn(child.spec)
                    child.started_at, child.restart_at = time.monotonic(), None
            time.sleep(every_s)

    def _plan_restart(self, child: _Child) -> float:
        """Return when to start an ended process again; raises StartFailed where it has ended too often."""
        name, code = child.spec.name, child.process.returncode
        if time.monotonic() - child.started_at > _QUIET_AGAIN_AFTER_S:
            child.restarts = 0
        child.restarts += 1
        if child.restarts > _RESTARTS_AT_MOST:
            raise StartFailed(f"{name} keeps ending (status {code}):\n{log_tail(child.log_path)}")
        logger.warning("process ended, starting it again", process=name, status=code, restart=child.restarts)
        return time.monotonic() + self._pause_s * 2 ** (child.restarts - 1)

    def stop(self) -> None:
        """Ask every process to end, last started first; kill what outstays its time."""
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
                try:
                    child.process.wait(child.spec.stop_after_s)
                except subprocess.TimeoutExpired:
                    logger.warning("process did not stop in time, killing it", process=child.spec.name)
                    child.process.kill()
                    child.process.wait()
        self._children.clear()


def _is_taken(url: str) -> bool:
    parts = urlsplit(url)
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((parts.hostname or "127.0.0.1", parts.port or 80)) == 0


def _answers(spec: ProcessSpec) -> bool:
    if spec.health_path is None:
        return not spec.url or _is_taken(spec.url)
    try:
        # Not through a proxy that the environment names: it cannot reach this machine's loopback.
        return httpx.get(spec.url + spec.health_path, timeout=1.0, trust_env=False).is_success
    except httpx.TransportError:
        return False
