"""The way every transport takes: work in, values or problems out, each picture counted once."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeVar

from services.detector.dataplane.batching import Batcher
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.waiting import outcome
from services.detector.dataplane.work import Ticket, Timing, Work
from shared.core.problems import Problem
from shared.core.tracing import current_trace

R = TypeVar("R")


async def infer(
    loaded: LoadedVersion,
    works: Sequence[Work[R]],
    *,
    wait_s: float,
    compute_timeout_s: float,
    priority: int = 0,
    foresee: bool = True,
) -> list[tuple[R, Timing] | Problem]:
    """Run `works` on a version and return, in their order, value and timing or the problem of each.

    `wait_s` bounds the wait in the queue, in seconds; `priority` 1 is the highest level, larger numbers are
    lower ones, 0 is the usual one (work.USUAL_LEVEL); without `foresee` a long queue refuses nobody, only a
    full one. They are queued together or not at all: TooManyRows, QueueFull and Draining are raised.
    Cancelling drops what has not been computed.
    """
    metrics = loaded.metrics
    try:
        tickets = loaded.batcher.submit(works, wait_s=wait_s, priority=priority, foresee=foresee)
    except Problem as problem:
        for _ in works:
            metrics.count(problem.code)
        raise
    waiting = [_value_or_problem(loaded.batcher, ticket, compute_timeout_s) for ticket in tickets]
    try:
        # Most requests bring one picture, which needs no task of its own.
        answers = [await waiting[0]] if len(waiting) == 1 else await asyncio.gather(*waiting)
    except asyncio.CancelledError:
        for _ in works:
            metrics.count("client_gone")
        raise
    trace = current_trace()
    for answer in answers:
        metrics.count(answer.code if isinstance(answer, Problem) else "ok")
        if trace is not None and not isinstance(answer, Problem):
            trace.record((stage.removesuffix("_s"), seconds) for stage, seconds in asdict(answer[1]).items())
    return answers


async def _value_or_problem(
    batcher: Batcher, ticket: Ticket[R], compute_timeout_s: float
) -> tuple[R, Timing] | Problem:
    try:
        return await outcome(batcher, ticket, compute_timeout_s=compute_timeout_s)
    except Problem as problem:
        return problem
