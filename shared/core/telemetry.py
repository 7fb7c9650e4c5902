"""Prometheus metrics that services share. Every application has a registry of its own, so none is global."""

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from shared.core.logging import get_logger

logger = get_logger(__name__)

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


class DiskCollector(Collector):
    """Room on the disk under each folder, read at each scrape.

    `folders` maps a kind (data, runs, repository, var) to a folder. One that is not there takes its nearest
    parent that is, where it would be made; one that cannot be asked is left out, and the log says why.
    """

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = dict(folders)

    def collect(self) -> Iterable[Metric]:
        free, size = self.describe()
        for kind, folder in self._folders.items():
            try:
                usage = shutil.disk_usage(_nearest_existing(folder))
            except OSError as error:
                logger.warning("disk cannot be asked", kind=kind, folder=str(folder), error=str(error))
                continue
            free.add_metric([kind], usage.free)
            size.add_metric([kind], usage.total)
        return free, size

    def describe(self) -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
        """Return both gauges without a value: the registry wants their names, which cost no look."""
        return (
            GaugeMetricFamily(
                "sightline_disk_free_bytes",
                "Room left for this process on the disk that holds the folder.",
                labels=["kind"],
            ),
            GaugeMetricFamily(
                "sightline_disk_size_bytes", "Size of the disk that holds the folder.", labels=["kind"]
            ),
        )


def _nearest_existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists() or path == path.parent)
