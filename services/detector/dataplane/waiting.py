"""Waiting for a ticket from an event loop, with an end to every wait."""

import asyncio
import time
from concurrent.futures import Future
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
    # One future and one timer: asyncio.wait_for and wrap_future take several callbacks and handles each.
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not answered.done():
            answered.set_result(None)

    def on_answer(_: "Future[tuple[R, Timing]]") -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            if not loop.is_closed():
                raise

    ticket.future.add_done_callback(on_answer)
    timer = loop.call_later(max(0.0, ticket.deadline - time.monotonic()), wake)
    try:
        await answered
        if not ticket.future.done():
            if batcher.drop(ticket, "deadline"):
                raise queue_deadline_exceeded(ticket)
            answered = loop.create_future()
            timer = loop.call_later(compute_timeout_s, wake)
            # It may have been answered since the last look, and woken the future before this one.
            if not ticket.future.done():
                await answered
        if not ticket.future.done():
            raise ComputeDeadlineExceeded(
                f"the model had not answered {compute_timeout_s:g} s after the picture left the queue"
            )
        return ticket.future.result()
    except asyncio.CancelledError:
        batcher.drop(ticket, "client_gone")
        raise
    finally:
        timer.cancel()
