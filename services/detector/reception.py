"""The door of every transport: what would be refused after its body has arrived is refused before."""

import contextlib
from collections.abc import Callable, Iterator

from fastapi import Request

from services.detector.dataplane.registry import LoadedVersion
from services.detector.metrics import VersionMetrics
from services.detector.state import detector_of
from shared.core.problems import QueueFull


@contextlib.contextmanager
def admitted(
    request: Request,
    model: str,
    version: str | None,
    check: Callable[[LoadedVersion], object] = lambda _: None,
) -> Iterator[Callable[[int], None]]:
    """Refuse a request whose model cannot answer, whose queue is full or whose body memory has no room for.

    The memory is held until the block ends, and with it so many bytes more as what this yields is called with
    (it raises QueueFull, too). `check` may raise its own problem with the version.
    """
    with contextlib.ExitStack() as held:
        with detector_of(request).registry.lease(model, version) as loaded:
            check(loaded)
            hold_more = held.enter_context(admitted_to(request, loaded))
        yield hold_more


@contextlib.contextmanager
def admitted_to(request: Request, loaded: LoadedVersion) -> Iterator[Callable[[int], None]]:
    """As `admitted`, to a version that the caller has at hand."""
    budget, metrics = detector_of(request).body_budget, loaded.metrics
    with contextlib.ExitStack() as held:
        with _counting_refusals(metrics):
            loaded.batcher.refuse_if_full()
            held.enter_context(budget.hold(request))

        def hold_more(size_bytes: int) -> None:
            with _counting_refusals(metrics):
                held.enter_context(budget.hold_bytes(size_bytes))

        yield hold_more


@contextlib.contextmanager
def _counting_refusals(metrics: VersionMetrics) -> Iterator[None]:
    try:
        yield
    except QueueFull as problem:
        metrics.count(problem.code)
        raise
