"""Work that ends when nobody waits for its answer any more."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from shared.core.shell import ClientGone

R = TypeVar("R")


async def unless_client_gone(request: Request, work: Coroutine[Any, Any, R]) -> R:
    """Return what `work` returns; cancel it and raise ClientGone if the connection closes first.

    The body of the request has to be read already: what arrives from then on is only the end.
    """
    task = asyncio.current_task()
    assert task is not None
    client_gone = working = False

    def leave(watching: "asyncio.Task[None]") -> None:
        nonlocal client_gone
        if working and not watching.cancelled():
            client_gone = True
            task.cancel()

    gone = asyncio.create_task(_disconnected(request))
    gone.add_done_callback(leave)
    working = True
    try:
        return await work
    except asyncio.CancelledError:
        if client_gone:
            task.uncancel()
            raise ClientGone from None
        raise  # somebody else wants an end
    finally:
        working = False
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
