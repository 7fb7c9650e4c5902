"""Streams on a data plane, without a server around it; time passes when a test says so."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.detector.dataplane.streams.stream import StreamLimits
from services.detector.dataplane.streams.table import StreamTable
from services.detector.dataplane.streams.windows import WindowLimits
from shared.repository import ModelRepository
from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.dataplane.plane import Plane, data_plane
from tests.services.detector.serving import Gate, gated, until


@dataclass
class Streams:
    """A table over a data plane; `now` is its clock."""

    plane: Plane
    table: StreamTable
    repository: ModelRepository
    gate: Gate
    now: list[float] = field(default_factory=lambda: [0.0])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.plane.metrics.get_sample_value(f"sightline_detector_{name}", labels)


LIMITS = StreamLimits(
    streams=4,
    idle_s=60.0,
    window=WindowLimits(windows=20, events=1000),
    wait_s=10.0,
    compute_timeout_s=10.0,
)


@contextmanager
def streams_of(
    repository: ModelRepository, limits: StreamLimits = LIMITS, **options: Any
) -> Iterator[Streams]:
    """Yield a table over `repository`, whose live versions are loaded, with a gate before every run."""
    now = [0.0]
    tables: list[StreamTable] = []
    with (
        pytest.MonkeyPatch.context() as patch,
        gated(patch) as gate,
        data_plane(repository, end_streams=lambda name: tables[0].end_model_soon(name), **options) as plane,
    ):
        until(lambda: plane.watcher.scanned)
        tables.append(StreamTable(plane.registry, limits, plane.detector_metrics, clock=lambda: now[0]))
        yield Streams(plane, tables[0], repository, gate, now)


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return tiny_stream_repository(tmp_path)


@pytest.fixture
def streams(repository: ModelRepository) -> Iterator[Streams]:
    with streams_of(repository) as streams:
        yield streams
