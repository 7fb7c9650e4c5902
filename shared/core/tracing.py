"""OpenTelemetry traces of requests, where the environment names a collector; otherwise nothing is imported.

OTEL_EXPORTER_OTLP_ENDPOINT (or …_TRACES_ENDPOINT) switches them on, the other OTEL_… variables work as the
SDK describes them, and a caller's trace goes on by its `traceparent` (W3C Trace Context).
"""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class TracingNotInstalled(RuntimeError):
    """The environment asks for traces and the packages for them are not there."""


class RequestTrace:
    """The span of one request that is being answered."""

    def __init__(self, tracer: "Tracer", context: "Context") -> None:
        self._tracer = tracer
        self._context = context

    def record(self, stages: Iterable[tuple[str, float]]) -> None:
        """Add a child span for each of `stages`, (name, seconds), which followed each other and end now."""
        durations_ns = [(name, int(seconds * 1e9)) for name, seconds in stages]
        start = time.time_ns() - sum(duration for _, duration in durations_ns)
        for name, duration in durations_ns:
            span = self._tracer.start_span(name, self._context, start_time=start)
            start += duration
            span.end(start)


_current: ContextVar[RequestTrace | None] = ContextVar("request_trace", default=None)


@contextmanager
def request_trace(tracer: "Tracer", context: "Context") -> Iterator[None]:
    """Make the span in `context` what `current_trace` finds until the block ends."""
    token = _current.set(RequestTrace(tracer, context))
    try:
        yield
    finally:
        _current.reset(token)


def current_trace() -> RequestTrace | None:
    """Return the trace of the request that is being answered here, None where there is none."""
    return _current.get()


def tracer_of(service: str) -> "Tracer | None":
    """Return what makes spans and sends them to the collector, None where the environment names none.

    Raises TracingNotInstalled.
    """
    if not any(os.environ.get(name) for name in _ENDPOINTS):
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingNotInstalled(
            f"{' or '.join(_ENDPOINTS)} is set and {error.name} is missing: "
            "pip install 'sightline[tracing]', or unset it"
        ) from error
    name = os.environ.get("OTEL_SERVICE_NAME") or f"sightline-{service}"
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))  # it flushes when it ends
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("sightline")
