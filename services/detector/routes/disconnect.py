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
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
