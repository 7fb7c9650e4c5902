"""A span for each request, as plain ASGI; part of an application only where traces are wanted."""

from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.core.shell import QUIET_PATHS
from shared.core.tracing import request_trace

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


class RequestSpans:
    """ASGI middleware: one server span for each request, named by its route."""

    def __init__(self, app: ASGIApp, *, tracer: "Tracer") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._app = app
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context
        from opentelemetry.trace.status import StatusCode

        if scope["type"] != "http" or scope["path"] in QUIET_PATHS:
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        span = self._tracer.start_span(
            scope["method"],
            self._propagator.extract(headers),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": scope["method"], "url.path": scope["path"]},
        )
        status: dict[str, Any] = {}

        async def noting_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                status["http.response.status_code"] = message["status"]
            await send(message)

        try:
            with request_trace(self._tracer, set_span_in_context(span)):
                await self._app(scope, receive, noting_status)
        finally:
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.update_name(f"{scope['method']} {route}")
                span.set_attribute("http.route", route)
            span.set_attribute("sightline.request_id", scope.get("state", {}).get("request_id", ""))
            span.set_attributes(status)
            if status.get("http.response.status_code", 500) >= 500:
                span.set_status(StatusCode.ERROR)
            span.end()
