"""Prometheus metrics of the HTTP shell. Every application has a registry of its own, so none is global."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

# From a refusal that takes half a millisecond to a large picture on a busy CPU.
LATENCY_BUCKETS_S = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)


@dataclass(frozen=True, slots=True)
class HttpMetrics:
    requests: Counter
    duration: Histogram
    in_flight: Gauge


def new_registry() -> CollectorRegistry:
    """Return a registry that already reports the process, the interpreter and its garbage collector."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def http_metrics(registry: CollectorRegistry) -> HttpMetrics:
    """Define the metrics that the HTTP shell fills for every service; routes are templates, not paths."""
    return HttpMetrics(
        requests=Counter(
            "sightline_http_requests_total",
            "HTTP requests answered.",
            ["service", "method", "route", "status"],
            registry=registry,
        ),
        duration=Histogram(
            "sightline_http_request_duration_seconds",
            "Time from the first byte of a request to the last byte of its answer.",
            ["service", "method", "route"],
            buckets=LATENCY_BUCKETS_S,
            registry=registry,
        ),
        in_flight=Gauge(
            "sightline_http_requests_in_flight",
            "HTTP requests being answered.",
            ["service"],
            registry=registry,
        ),
    )
