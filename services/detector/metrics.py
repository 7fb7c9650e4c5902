"""The detector's own metrics; those of the HTTP shell are in shared.core.telemetry."""

import threading
from collections import Counter as Multiset
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STAGE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_IMAGE_BUCKETS_BYTES = tuple(2**exponent for exponent in range(12, 26, 2))
_LOAD_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


@dataclass(frozen=True, slots=True)
class VersionMetrics:
    """The metrics of one loaded version, their labels filled in: finding a child costs a lock each time."""

    requests: Counter  # still without `outcome`
    queue: Histogram
    preprocess: Histogram
    compute: Histogram
    postprocess: Histogram
    batch_size: Histogram
    batches: Counter  # still without `reason`
    runs: Counter  # still without `session`
    dropped: Counter  # still without `reason`
    queue_depth: Gauge
    image_bytes: Histogram
    stream_windows: Counter  # still without labels: only versions with streams have it
    labels: tuple[str, str]

    def count(self, outcome: str) -> None:
        """Count one picture by how it ended."""
        self.requests.labels(*self.labels, outcome).inc()

    def drop(self, reason: str) -> None:
        """Count one picture that was taken out before compute."""
        self.dropped.labels(*self.labels, reason).inc()

    def windows(self, count: int) -> None:
        """Count windows of a stream that were answered."""
        self.stream_windows.labels(*self.labels).inc(count)

    def batch(self, size: int, reason: str, session: str) -> None:
        """Count one run of `size` pictures, why it did not wait for more, and on which session it was."""
        self.batch_size.observe(size)
        self.batches.labels(*self.labels, reason).inc()
        self.runs.labels(*self.labels, session).inc()


class DetectorMetrics:
    """Defines the metrics in `registry`; a version is labelled by its number, never by an alias."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._lock = threading.Lock()
        self._copies: Multiset[tuple[str, int]] = Multiset()  # of each version that are loaded

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"sightline_detector_{name}", text, ["model", "version"], buckets=buckets, registry=registry
            )

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(
                f"sightline_detector_{name}", text, ["model", "version", *labels], registry=registry
            )

        self._requests = counter("requests_total", "Pictures by how they ended.", "outcome")
        self._queue = histogram("queue_seconds", "Wait of a picture in the queue.", _STAGE_BUCKETS_S)
        self._preprocess = histogram(
            "preprocess_seconds", "Decoding and letterboxing, as a picture meets it.", _STAGE_BUCKETS_S
        )
        self._compute = histogram(
            "compute_seconds", "The session run, as a picture meets it.", _STAGE_BUCKETS_S
        )
        self._postprocess = histogram(
            "postprocess_seconds", "Thresholds, suppression and drawing.", _STAGE_BUCKETS_S
        )
        self._batch_size = histogram("batch_size", "Pictures in one session run.", _BATCH_BUCKETS)
        self._batches = counter(
            "batches_total", "Session runs by why they left: full, delay or drain.", "reason"
        )
        self._runs = counter(
            "session_runs_total",
            "Session runs by session: wide uses every core for one picture, narrow shares them.",
            "session",
        )
        self._dropped = counter("dropped_total", "Pictures dropped before compute.", "reason")
        self._image_bytes = histogram("image_bytes", "Size of encoded pictures.", _IMAGE_BUCKETS_BYTES)
        self._stream_windows = counter("stream_windows_total", "Windows of streams that were answered.")
        self._streams_opened = counter("streams_opened_total", "Streams that were opened.")
        self._streams_ended = counter(
            "streams_ended_total",
            "Streams that ended, by why: client, idle, unloaded or shutdown.",
            "reason",
        )
        self._streams_open = Gauge(
            "sightline_detector_streams_open", "Open streams.", ["model", "version"], registry=registry
        )
        self._queue_depth = Gauge(
            "sightline_detector_queue_depth", "Pictures waiting.", ["model", "version"], registry=registry
        )
        self._loaded = Gauge(
            "sightline_detector_version_loaded",
            "1 for each loaded version, with the provider its session really uses.",
            ["model", "version", "provider"],
            registry=registry,
        )
        self._fallback = Gauge(
            "sightline_detector_provider_fallback",
            "1 for a loaded version whose session runs on another provider than was asked for, else 0.",
            ["model", "version"],
            registry=registry,
        )
        self._live = Gauge(
            "sightline_detector_live_version",
            "Number of the version that answers requests that name none.",
            ["model"],
            registry=registry,
        )
        self._load_seconds = Histogram(
            "sightline_detector_load_seconds",
            "Verifying, loading and warming up a version.",
            ["model"],
            buckets=_LOAD_BUCKETS_S,
            registry=registry,
        )
        self._load_failures = Counter(
            "sightline_detector_load_failures_total",
            "Versions that could not be loaded, each attempt.",
            ["model", "version", "reason"],
            registry=registry,
        )

    def of_version(self, model: str, version: int) -> VersionMetrics:
        """Return the metrics of one version with their labels filled in."""
        labels = (model, str(version))
        return VersionMetrics(
            requests=self._requests,
            queue=self._queue.labels(*labels),
            preprocess=self._preprocess.labels(*labels),
            compute=self._compute.labels(*labels),
            postprocess=self._postprocess.labels(*labels),
            batch_size=self._batch_size.labels(*labels),
            batches=self._batches,
            runs=self._runs,
            dropped=self._dropped,
            queue_depth=self._queue_depth.labels(*labels),
            image_bytes=self._image_bytes.labels(*labels),
            stream_windows=self._stream_windows,
            labels=labels,
        )

    def loaded(self, model: str, version: int, provider: str, duration_s: float, *, fell_back: bool) -> None:
        """Record that a version is loaded and warm, and whether `provider` is another than was asked for."""
        with self._lock:
            self._copies[model, version] += 1
            self._loaded.labels(model, str(version), provider).set(1)
            self._fallback.labels(model, str(version)).set(fell_back)
        self._load_seconds.labels(model).observe(duration_s)

    def unloaded(self, model: str, version: int, provider: str) -> None:
        """Record that a version is gone; one that was loaded again while it ended keeps its metrics."""
        with self._lock:
            self._copies[model, version] -= 1
            if self._copies[model, version] > 0:
                return
            del self._copies[model, version]
            self._loaded.remove(model, str(version), provider)
            self._fallback.remove(model, str(version))
            self._queue_depth.remove(model, str(version))
            self._streams_open.remove(model, str(version))

    def stream_opened(self, model: str, version: int) -> None:
        """Record that a stream was opened on a version."""
        self._streams_opened.labels(model, str(version)).inc()
        self._streams_open.labels(model, str(version)).inc()

    def stream_ended(self, model: str, version: int, reason: str) -> None:
        """Record that a stream on a version ended; `reason` is one of a small set."""
        self._streams_ended.labels(model, str(version), reason).inc()
        with self._lock:
            if self._copies[model, version] > 0:  # else its gauge went with it
                self._streams_open.labels(model, str(version)).dec()

    def load_failed(self, model: str, version: int, reason: str) -> None:
        """Record that an attempt to load a version failed."""
        self._load_failures.labels(model, str(version), reason).inc()

    def live(self, model: str, version: int | None) -> None:
        """Record which version answers requests that name none; None when there is none any more."""
        if version is not None:
            self._live.labels(model).set(version)
        else:
            self._live.remove(model)
