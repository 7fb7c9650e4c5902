"""The busiest endpoints without the framework around them, which costs half a millisecond a request.

A plain request for one of the lanes, a path and a body, goes straight to the endpoint's function. Whatever
wants more, a query, a form or another method, takes the framework's way to the same function; so does what
OpenAPI says of it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fastapi import Request, Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Lane:
    """A POST endpoint by its path template, with what its dependencies are where the request says nothing."""

    path: str
    endpoint: Callable[..., Awaitable[Response]]
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class FastLane:
    """ASGI middleware, the innermost one: problems are translated by those around it."""

    def __init__(self, app: ASGIApp, *, lanes: Sequence[Lane]) -> None:
        self._app = app
        self._lanes = [(compile_path(lane.path)[0], lane) for lane in lanes]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST" and not scope["query_string"]:
            path: str = scope["path"]
            for pattern, lane in self._lanes:
                found = pattern.match(path)
                if found is not None and not _is_form(scope):
                    scope["route"] = lane  # its path is the label of the metrics
                    request = Request(scope, receive, send)
                    response = await lane.endpoint(request=request, **found.groupdict(), **lane.defaults)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _is_form(scope: Scope) -> bool:
    return any(name == b"content-type" and b"form" in value.lower() for name, value in scope["headers"])
