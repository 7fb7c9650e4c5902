"""The way every transport takes: work in, values or problems out, each picture counted once."""

import asyncio
from collections.abc import Sequence
from typing import TypeVar

from services.detector.dataplane.batching import Batcher, Ticket, Timing, Work
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.waiting import outcome
from shared.core.problems import Problem

R = TypeVar("R")


async def infer(
    loaded: LoadedVersion, works: Sequence[Work[R]], *, wait_s: float, compute_timeout_s: float
) -> list[tuple[R, Timing] | Problem]:
    """Run `works` on a version and return, in their order, value and timing or the problem of each.

    They are queued together or not at all: QueueFull and Draining are raised. Cancelling drops what has not
    been computed.
    """
    metrics = loaded.metrics
    try:
        tickets = loaded.batcher.submit(works, wait_s=wait_s)
    except Problem as problem:
        for _ in works:
            metrics.count(problem.code)
        raise
    try:
        answers = await asyncio.gather(
            *(_value_or_problem(loaded.batcher, ticket, compute_timeout_s) for ticket in tickets)
        )
    except asyncio.CancelledError:
        for _ in works:
            metrics.count("client_gone")
        raise
    for answer in answers:
        metrics.count(answer.code if isinstance(answer, Problem) else "ok")
    return answers


async def _value_or_problem(
    batcher: Batcher, ticket: Ticket[R], compute_timeout_s: float
) -> tuple[R, Timing] | Problem:
    try:
        return await outcome(batcher, ticket, compute_timeout_s=compute_timeout_s)
    except Problem as problem:
        return problem
