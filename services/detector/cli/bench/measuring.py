"""A process that measures on command: one JSON line in, one JSON line out."""

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from services.detector.cli.bench.process_tree import ProcessTree

STOP_DEADLINE_S = 10.0


class MeasuringFailed(RuntimeError):
    """A measuring process ended or did not answer in time; the message ends with what it printed."""


class MeasuringProcess:
    """A running `python -m module …` that answers JSON commands line by line."""

    def __init__(self, name: str, process: subprocess.Popen[str]) -> None:
        self._name = name
        self._process = process
        self._answers: queue.Queue[str] = queue.Queue(maxsize=2)  # an answer and the end
        self._printed: list[str] = []
        self._threads = [
            threading.Thread(target=self._read_answers, daemon=True),
            threading.Thread(target=self._read_messages, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Return the CPU time, user and system, that it has used so far."""
        return ProcessTree(self.pid).cpu_seconds()

    def ask(self, deadline_s: float, **command: Any) -> dict[str, Any]:
        """Send one command and return its answer. Raises MeasuringFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=deadline_s)
        except (BrokenPipeError, queue.Empty) as error:
            raise MeasuringFailed(self._failure(f"no answer within {deadline_s:g} s")) from error
        if not line:
            raise MeasuringFailed(self._failure("it ended"))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read_answers(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _read_messages(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._printed = [*self._printed[-20:], line]

    def _failure(self, what: str) -> str:
        if self._process.poll() is not None:
            self._threads[1].join(STOP_DEADLINE_S)  # so that its last words are in
        return f"{self._name}: {what}\n{''.join(self._printed)}"


@contextlib.contextmanager
def start_measuring(module: str, *arguments: str) -> Iterator[MeasuringProcess]:
    """Run `python -m module arguments…` for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    measuring = MeasuringProcess(module, process)
    try:
        yield measuring
    finally:
        measuring.stop()
