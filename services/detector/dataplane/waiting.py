"""Waiting for a ticket from an event loop, with an end to every wait."""

import asyncio
import time
from typing import TypeVar

from services.detector.dataplane.batching import Batcher, queue_deadline_exceeded
from services.detector.dataplane.problems import ComputeDeadlineExceeded
from services.detector.dataplane.work import Ticket, Timing

R = TypeVar("R")


async def outcome(batcher: Batcher, ticket: Ticket[R], *, compute_timeout_s: float) -> tuple[R, Timing]:
    """Return a ticket's value and timing, or raise its problem.

    A ticket that is still queued at its deadline is dropped (QueueDeadlineExceeded); one that is being
    computed gets `compute_timeout_s` more (ComputeDeadlineExceeded). Cancelling this drops the ticket.
    """
    future = asyncio.wrap_future(ticket.future)
    future.add_done_callback(_seen)
    try:
        await asyncio.wait((future,), timeout=max(0.0, ticket.deadline - time.monotonic()))
        if not future.done() and batcher.drop(ticket, "deadline"):
            raise queue_deadline_exceeded(ticket)
        if not future.done():
            await asyncio.wait((future,), timeout=compute_timeout_s)
        if not future.done():
            raise ComputeDeadlineExceeded(
                f"the model had not answered {compute_timeout_s:g} s after the picture left the queue"
            )
        return future.result()
    except asyncio.CancelledError:
        batcher.drop(ticket, "client_gone")
        raise


def _seen(future: "asyncio.Future[tuple[R, Timing]]") -> None:
    """Mark the exception as retrieved: of a dropped ticket nobody reads it, which is no fault."""
    if not future.cancelled():
        future.exception()
