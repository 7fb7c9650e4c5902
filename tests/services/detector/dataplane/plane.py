"""A data plane over a repository, without a server around it and with nothing happening by itself."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from services.detector.dataplane.batching import BatchPolicy
from services.detector.dataplane.control import ModelControl
from services.detector.dataplane.loading import LoadOptions, VersionLoader
from services.detector.dataplane.registry import ModelRegistry
from services.detector.dataplane.session import SessionOptions
from services.detector.dataplane.watcher import RepositoryWatcher
from services.detector.metrics import DetectorMetrics
from shared.repository import ModelRepository


@dataclass(frozen=True, slots=True)
class Plane:
    registry: ModelRegistry
    watcher: RepositoryWatcher
    control: ModelControl
    metrics: CollectorRegistry
    detector_metrics: DetectorMetrics


@contextlib.contextmanager
def data_plane(
    repository: ModelRepository, *, end_streams: Callable[[str], None] = lambda _: None, **options: Any
) -> Iterator[Plane]:
    """Yield a data plane whose watcher looks only when its `scan` is called."""
    defaults: dict[str, Any] = {
        "session": SessionOptions(),
        "policy": BatchPolicy(instances=2),
        "max_batch": 1,
        "max_delay_s": 0.0,
        "max_pixels": 10_000_000,
        "jpeg_quality": 90,
    }
    collectors = CollectorRegistry()
    metrics = DetectorMetrics(collectors)
    registry = ModelRegistry("live")
    loader = VersionLoader(repository, LoadOptions(**(defaults | options)), metrics, None)
    watcher = RepositoryWatcher(
        repository,
        registry,
        loader,
        metrics,
        aliases=["live"],
        poll_interval_s=60,
        retry_max_s=60,
        end_streams=end_streams,
    )
    watcher.start()
    try:
        yield Plane(registry, watcher, ModelControl(registry, watcher), collectors, metrics)
    finally:
        watcher.stop(5.0)
