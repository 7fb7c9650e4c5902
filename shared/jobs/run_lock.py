"""Keeps two workers from writing to one run folder, whatever the database and the clocks say.

On one machine (and on shared file systems that carry locks) an advisory lock holds for as long as the
process that took it lives. Across machines without such locks the fencing token in the file tells a worker
that came back from a long pause that it is no longer the owner.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from shared.jobs.problems import LeaseLost


class RunFolderHeld(Exception):
    """Another process still holds the run folder; it is most likely hung or paused."""


@dataclass(frozen=True)
class RunLock:
    """The right to write to a run folder, recorded under a fencing token."""

    path: Path
    token: int

    def ensure(self) -> None:
        """Raise LeaseLost where a later claim has put its token into the file."""
        owner = _owner(self.path)
        if owner is None or owner["token"] != self.token:
            raise LeaseLost(f"the run folder behind {self.path.name} belongs to {owner or 'nobody'} by now")


@contextmanager
def hold_run_folder(
    runs_root: Path, job_id: str, token: int, worker_id: str, *, timeout_s: float, give_up: Callable[[], bool]
) -> Iterator[RunLock]:
    """Hold the lock of a job's run folder, waiting for it at most `timeout_s`.

    Locks lie in `<runs_root>/.locks`, so that a job without a run folder makes none. Raises RunFolderHeld
    after the wait, and LeaseLost as soon as `give_up()` is true.
    """
    folder = runs_root / ".locks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{job_id}.lock"
    descriptor = _acquire(path, timeout_s, give_up)
    try:
        if (owner := _owner(path)) is not None and owner["token"] > token:
            raise LeaseLost(f"claim {token} of job {job_id} comes after claim {owner['token']}")
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps({"token": token, "worker": worker_id, "pid": os.getpid()}), 0)
        os.fsync(descriptor)
        yield RunLock(path, token)
    finally:
        os.close(descriptor)  # which lets go of the lock


def _acquire(path: Path, timeout_s: float, give_up: Callable[[], bool]) -> int:
    deadline = time.monotonic() + timeout_s
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while not _try_lock(descriptor):
            _keep_waiting(path, deadline, give_up)
            time.sleep(0.05)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _keep_waiting(path: Path, deadline: float, give_up: Callable[[], bool]) -> None:
    if give_up():
        raise LeaseLost(f"the lease ended while waiting for {path.name}")
    if time.monotonic() > deadline:
        raise RunFolderHeld(f"another process still holds the run folder: {_owner(path)}; end it if it hangs")


def _owner(path: Path) -> dict[str, Any] | None:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    return orjson.loads(content) if content else None
