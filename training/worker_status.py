"""What a worker tells about itself: metrics, and a small HTTP endpoint for them and for health checks."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from shared.jobs.execution import Outcome
from shared.jobs.reconciler import Reason


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    jobs: Counter
    running: Gauge
    job_seconds: Counter
    leases_lost: Counter
    heartbeat_failures: Counter
    heartbeat_age: Gauge
    events_dropped: Counter
    reconciled: Counter


def worker_metrics(registry: CollectorRegistry, kinds: Iterable[str]) -> WorkerMetrics:
    """Define the metrics of a worker for these kinds of jobs; every outcome and reason begins at 0."""
    metrics = WorkerMetrics(
        jobs=Counter(
            "sightline_worker_jobs_total",
            "Attempts by outcome: succeeded, failed, retried, cancelled, released, lost.",
            ["kind", "outcome"],
            registry=registry,
        ),
        running=Gauge("sightline_worker_running_jobs", "Jobs being run.", ["kind"], registry=registry),
        job_seconds=Counter(
            "sightline_worker_job_seconds_total", "Time spent on attempts.", ["kind"], registry=registry
        ),
        leases_lost=Counter(
            "sightline_worker_leases_lost_total", "Attempts given up to another worker.", registry=registry
        ),
        heartbeat_failures=Counter(
            "sightline_worker_heartbeat_failures_total", "Heartbeats that failed.", registry=registry
        ),
        heartbeat_age=Gauge(
            "sightline_worker_heartbeat_age_seconds",
            "Time since the running job's lease was renewed, 0 without a job.",
            registry=registry,
        ),
        events_dropped=Counter(
            "sightline_worker_events_dropped_total",
            "Events given up because the database was away for too long.",
            registry=registry,
        ),
        reconciled=Counter(
            "sightline_worker_reconciled_total",
            "What this worker's reconciler did or met.",
            ["reason"],
            registry=registry,
        ),
    )
    # increase() does not see the step from no series to 1.
    for kind in kinds:
        for outcome in get_args(Outcome):
            if outcome != "skipped":  # no attempt, so never counted
                metrics.jobs.labels(kind, outcome)
    for reason in get_args(Reason):
        metrics.reconciled.labels(reason)
    return metrics


class JobClock:
    """Notes when a job began and when its lease was last renewed, and keeps the metrics in step."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._started_at: float | None = None
        self._renewed_at: float | None = None
        metrics.heartbeat_age.set_function(self._heartbeat_age_s)

    def started(self, kind: str) -> None:
        self._started_at = self._renewed_at = time.monotonic()
        self._metrics.running.labels(kind).inc()

    def renewed(self) -> None:
        self._renewed_at = time.monotonic()

    def ended(self, kind: str, outcome: str) -> None:
        if self._started_at is not None:
            self._metrics.job_seconds.labels(kind).inc(time.monotonic() - self._started_at)
        self._started_at = self._renewed_at = None
        self._metrics.running.labels(kind).dec()
        self._metrics.jobs.labels(kind, outcome).inc()
        if outcome == "lost":
            self._metrics.leases_lost.inc()

    @property
    def is_running(self) -> bool:
        return self._started_at is not None

    def _heartbeat_age_s(self) -> float:
        renewed_at = self._renewed_at
        return 0.0 if renewed_at is None else time.monotonic() - renewed_at


class StatusServer:
    """Answers /livez, /readyz and /metrics from a thread; `reasons` says why the worker is not ready."""

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, reasons: Callable[[], list[str]]
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a client to send its request

            def do_GET(self) -> None:
                status, content_type, body = _answer(self.path, registry, reasons)
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Say nothing: these are health checks and scrapes."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="status", daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _answer(
    path: str, registry: CollectorRegistry, reasons: Callable[[], list[str]]
) -> tuple[int, str, bytes]:
    match path.partition("?")[0]:
        case "/livez":
            return 200, "application/json", b'{"status":"alive"}'
        case "/readyz":
            why = reasons()
            body = orjson.dumps({"status": "not ready" if why else "ready", "reasons": why})
            return 503 if why else 200, "application/json", body
        case "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
        case _:
            return 404, "text/plain", b"/livez, /readyz and /metrics are here\n"
