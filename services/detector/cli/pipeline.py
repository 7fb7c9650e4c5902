"""Stages that run side by side with bounded queues between them: read ahead, and map in order."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

# A hanging file system or decoder must end in a message, not in a silent wait.
READ_DEADLINE_S = 60.0
_STOP_CHECK_S = 0.1


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


_END = object()


def read_ahead(
    items: Iterable[T], depth: int, deadline_s: float = READ_DEADLINE_S
) -> Generator[T, None, None]:
    """Iterate over `items` in a thread of its own, at most `depth` items ahead of the consumer.

    Whatever `items` raises is raised here, after the items before it. Raises TimeoutError if the next
    item does not come within `deadline_s`. Closing the iterator stops the thread and closes `items`.
    """
    ahead: queue.Queue[object] = queue.Queue(maxsize=depth)
    stopped = threading.Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ahead.put(item, timeout=_STOP_CHECK_S)
            except queue.Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put(item):
                    break
            else:
                put(_END)
        except BaseException as error:  # noqa: BLE001 - raised again on the consumer's side
            put(_Raised(error))
        finally:
            if isinstance(items, Generator):
                items.close()

    reader = threading.Thread(target=fill, name="read-ahead", daemon=True)
    reader.start()
    try:
        while True:
            try:
                item = ahead.get(timeout=deadline_s)
            except queue.Empty as error:
                raise TimeoutError(f"nothing could be read for {deadline_s:g} s") from error
            if item is _END:
                return
            if isinstance(item, _Raised):
                raise item.error
            yield item  # type: ignore[misc]  # only items and the two marks are ever put
    finally:
        stopped.set()
        reader.join(timeout=deadline_s)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items in order; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def map_in_order(
    function: Callable[[T], R], items: Iterable[T], *, workers: int, window: int
) -> Generator[tuple[T, R], None, None]:
    """Yield (item, function(item)) in the order of `items`, with `workers` threads at work.

    At most `window` items are taken and not yet given out. What `function` raises is raised when its
    item's turn comes; items that have not started by then are dropped.
    """
    pending: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="predict") as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                if len(pending) >= window:
                    done, future = pending.popleft()
                    yield done, future.result()
            while pending:
                done, future = pending.popleft()
                yield done, future.result()
        finally:
            for _, future in pending:
                future.cancel()
