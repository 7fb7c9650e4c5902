"""The door of every transport: what would be refused after its body has arrived is refused before."""

import contextlib
from collections.abc import Callable, Iterator

from fastapi import Request

from services.detector.dataplane.registry import LoadedVersion
from services.detector.state import detector_of
from shared.core.problems import QueueFull


@contextlib.contextmanager
def admitted(
    request: Request,
    model: str,
    version: str | None,
    check: Callable[[LoadedVersion], object] = lambda _: None,
) -> Iterator[None]:
    """Refuse a request whose model cannot answer, whose queue is full or whose body memory has no room for.

    The memory is held until the block ends. `check` may raise its own problem with the version.
    """
    detector = detector_of(request)
    with contextlib.ExitStack() as held:
        with detector.registry.lease(model, version) as loaded:
            check(loaded)
            try:
                loaded.batcher.refuse_if_full()
                held.enter_context(detector.body_budget.hold(request))
            except QueueFull as problem:
                loaded.metrics.count(problem.code)
                raise
        yield
