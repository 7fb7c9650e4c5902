"""Worker processes that end quietly with the command: Ctrl-C ends them, and leaves no traces of theirs."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import cv2


@contextmanager
def worker_pool(
    workers: int, prepare: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, each with one OpenCV thread; `prepare(*arguments)` is called first in each.

    Where the block is left by an exception, Ctrl-C among them, the processes are ended at once: what they
    write must therefore appear in one step. Processes start as tasks are submitted, within the block.
    """
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_start, initargs=(prepare, arguments)
    )
    try:
        yield pool
    except BaseException:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Processes started in the block take no notice of Ctrl-C, not even while they start.

    Does nothing outside the main thread, where signals cannot be set.
    """
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _start(prepare: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    cv2.setNumThreads(1)  # what runs in parallel are the processes
    if prepare is not None:
        prepare(*arguments)
