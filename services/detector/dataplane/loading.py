"""From a version on disk to one that can answer: verify, open, warm up, start its queue."""

import time
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from services.detector.dataplane.batching import Batcher, BatchPolicy
from services.detector.dataplane.in_flight import InFlight
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.session import Session, SessionOptions, open_session, warm_up
from services.detector.dataplane.tasks import TASKS
from services.detector.metrics import DetectorMetrics
from shared.repository import ModelRepository
from shared.repository.manifest import MODEL_FILE, Manifest
from shared.repository.repository import CONFIG_FILE
from shared.repository.triton_config_reader import read_model_config


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How versions are loaded; None for a batch limit takes the one in the model's config.pbtxt.

    With `wide_threads` each version has a second session of so many threads, for work that is alone.

    Whatever a run's limit is, one piece of work may bring as many rows as config.pbtxt says.
    """

    session: SessionOptions
    policy: BatchPolicy
    max_batch: int | None
    max_delay_s: float | None
    max_pixels: int
    jpeg_quality: int
    wide_threads: int | None = None


class VersionLoader:
    """Loads versions of one repository, all with the same options."""

    def __init__(
        self,
        repository: ModelRepository,
        options: LoadOptions,
        metrics: DetectorMetrics,
        decode_pool: Executor | None,
    ) -> None:
        self._repository = repository
        self._options = options
        self._metrics = metrics
        self._decode_pool = decode_pool
        self._in_flight = InFlight()

    def load(self, name: str, version: int) -> LoadedVersion:
        """Return the version, warm. Raises CorruptVersion, UnsupportedManifest, UnusableGraph or OSError."""
        started = time.monotonic()
        manifest = self._repository.verify(name, version)
        policy = self._policy(name)
        session = self._open(manifest, self._options.session, policy)
        wide = None
        if self._options.wide_threads is not None:
            threads = replace(self._options.session, intra_op_threads=self._options.wide_threads)
            wide = self._open(manifest, threads, policy)
        metrics = self._metrics.of_version(name, version)
        task = TASKS[manifest.task](
            manifest, max_pixels=self._options.max_pixels, jpeg_quality=self._options.jpeg_quality
        )
        batcher = Batcher(
            f"{name} version {version}",
            session.run,
            policy,
            metrics,
            self._decode_pool,
            run_alone=None if wide is None else wide.run,
            in_flight=self._in_flight,
        )
        self._metrics.loaded(
            name, version, session.provider, time.monotonic() - started, fell_back=session.fell_back
        )
        return LoadedVersion(manifest, session, task, batcher, metrics)

    def unload(self, loaded: LoadedVersion, timeout_s: float) -> bool:
        """End a version's threads and let go of its memory; returns whether the threads ended in time."""
        ended = loaded.batcher.close(timeout_s)
        self._metrics.unloaded(loaded.name, loaded.version, loaded.session.provider)
        return ended

    def _open(self, manifest: Manifest, options: SessionOptions, policy: BatchPolicy) -> Session:
        """Return a session that has run every batch size it will be used for."""
        model = self._repository.path(manifest.name, manifest.version) / MODEL_FILE
        session = open_session(model, manifest, options, policy.max_batch)
        warm_up(session, manifest, range(1, policy.max_batch + 1))
        return session

    def _policy(self, name: str) -> BatchPolicy:
        options = self._options
        config = read_model_config(self._repository.root / name / CONFIG_FILE)
        # Triton's 0 says that the graph takes no batch dimension at all.
        max_rows = max(1, config.get("max_batch_size", 0))
        max_batch = max_rows if options.max_batch is None else options.max_batch
        max_delay_s = options.max_delay_s
        if max_delay_s is None:
            max_delay_s = config.get("dynamic_batching", {}).get("max_queue_delay_microseconds", 0) / 1e6
        return replace(options.policy, max_batch=max_batch, max_delay_s=max_delay_s, max_rows=max_rows)
