"""Locks between processes, held by the kernel: a writer that dies, dies without its lock."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shared.core.problems import Unavailable

LOCK_FILE = ".lock"
LOCK_DEADLINE_S = 20.0
_POLL_S = 0.02


@contextlib.contextmanager
def model_lock(folder: Path, *, deadline_s: float = LOCK_DEADLINE_S) -> Iterator[None]:
    """Hold the lock of one model's folder, which is made if it is not there.

    Held for moments only: to number a version or to move an alias, never while a version is built.
    Raises Unavailable when another process keeps it longer than `deadline_s`.
    """
    deadline = time.monotonic() + deadline_s
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _wait(descriptor, folder, deadline)
            if _is_still(descriptor, folder / LOCK_FILE):
                yield
                return
        finally:
            os.close(descriptor)
        # The folder was cleaned away while this process waited: lock the one that is there now.


def _wait(descriptor: int, folder: Path, deadline: float) -> None:
    while not try_lock(descriptor):
        if time.monotonic() >= deadline:
            raise Unavailable(
                f"another process holds {folder / LOCK_FILE} for too long; see which one with `fuser`"
            )
        time.sleep(_POLL_S)


def _is_still(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool:
    """Take the exclusive lock of an open file or folder; false if another process has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
