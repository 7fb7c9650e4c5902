"""What a process and everything it started cost: processor time and memory."""

import contextlib
import os
import secrets
from collections.abc import Iterator

import psutil

MARK = "SIGHTLINE_BENCH_MARK"


class ProcessTree:
    """A process with its descendants, those included that have left it for another parent.

    Such ones are known by an environment variable that `marked` gives, which children inherit.
    """

    def __init__(self, pid: int, mark: str | None = None) -> None:
        self.pid = pid
        self._mark = mark
        self._seen: dict[int, psutil.Process] = {}

    def members(self) -> list[psutil.Process]:
        """Return the processes that are alive, the root last."""
        root = psutil.Process(self.pid)
        found = {child.pid: child for child in root.children(recursive=True)}
        if self._mark is not None:
            found |= {one.pid: one for one in _marked_with(self._mark)}
        found |= {pid: one for pid, one in self._seen.items() if pid not in found and one.is_running()}
        found.pop(self.pid, None)
        self._seen = dict(found)
        return [*found.values(), root]

    def cpu_seconds(self) -> float:
        """Return user and system time of all of them, and of those that have ended and were waited for."""
        total = 0.0
        for process in self.members():
            # One that ends just now is in its parent's time of ended children; the root is read last.
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def resident_bytes(self) -> int:
        """Return the resident memory of all of them; what several share counts for each."""
        return sum(self._each("rss"))

    def proportional_bytes(self) -> int:
        """Return their memory with what several processes share counted once (Linux's PSS)."""
        return sum(self._each("pss"))

    def kill(self) -> None:
        """End whatever is left of them, the root included."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.members()
        for process in [*self._seen.values()]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(self.pid).kill()

    def _each(self, figure: str) -> Iterator[int]:
        for process in self.members():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                full = figure != "rss"
                yield getattr(process.memory_full_info() if full else process.memory_info(), figure)


def new_mark() -> str:
    """Return a value for the variable MARK that no other process has."""
    return secrets.token_hex(8)


def _marked_with(mark: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        # Those of other users cannot be read, and are not ours.
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield process
