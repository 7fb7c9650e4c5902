"""The worker: takes wake-ups from the queue and runs one job at a time. `python -m training.worker`.

Celery carries the wake-ups and watches the connection to Redis; what a job is and who may run it is decided
in the table (`shared.jobs`). SIGTERM lets the running job save and go back into the queue.
"""

import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from celery import Celery, signals
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.core.logging import configure_logging, get_logger
from shared.core.settings import CommonSettings
from shared.core.telemetry import DiskCollector, new_registry
from shared.jobs.broker import QUEUE_NAME, TASK_NAME, WakeUps, create_celery
from shared.jobs.database import create_database_engine
from shared.jobs.execution import Executor
from shared.jobs.lease import LeaseObserver
from shared.jobs.migrate import migrate
from shared.jobs.reconciler import Reconciler, ReconcilerThread
from shared.jobs.runners import Runners, installed_runners
from shared.jobs.settings import QueueSettings
from shared.jobs.store import JobStore
from training.worker_status import JobClock, StatusServer, worker_metrics

logger = get_logger(__name__)


class WorkerSettings(BaseSettings):
    """Settings of a worker, from `SIGHTLINE_WORKER_…`. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_WORKER_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address of /livez, /readyz and /metrics.")
    port: int = Field(8103, ge=0, le=65535, description="Port of them; 0 takes any free one.")
    shutdown_s: float = Field(
        45.0,
        gt=0,
        description="Time for the running job to save after SIGTERM; the process ends then anyway.",
    )
    warm_up: bool = Field(True, description="Import the runners after the start, not with the first job.")


class Worker:
    """One worker process. Build it once, `run` it once."""

    def __init__(
        self,
        settings: CommonSettings,
        worker: WorkerSettings,
        queue: QueueSettings,
        runners: Runners,
    ) -> None:
        self._settings, self._worker, self._queue, self._runners = settings, worker, queue, runners
        self._shutdown = threading.Event()
        self._consumer: Any = None  # Celery's, once it is connected
        self._engine = create_database_engine(settings.database_url)
        self._store = JobStore(self._engine, max_attempts=queue.max_attempts, max_events=queue.max_events)
        self._registry = new_registry()
        self._registry.register(DiskCollector(_folders(settings)))
        self._metrics = metrics = worker_metrics(self._registry, runners.kinds)
        self._clock = JobClock(metrics)
        self._executor = Executor(
            store=self._store,
            runners=runners,
            settings=settings,
            queue=queue,
            worker_id=f"{socket.gethostname()}:{os.getpid()}",
            shutdown=self._shutdown,
            observer=LeaseObserver(
                self._clock.renewed, metrics.heartbeat_failures.inc, metrics.events_dropped.inc
            ),
            started=self._clock.started,
            ended=self._clock.ended,
        )
        self._reconciler = ReconcilerThread(
            Reconciler(
                self._store,
                WakeUps(settings.redis_url, timeout_s=queue.broker_timeout_s),
                queue.wake_up_after_s,
                lambda reason: metrics.reconciled.labels(reason).inc(),
            ),
            queue.reconcile_s,
        )

    def run(self) -> int:
        """Work until SIGTERM or SIGINT. Returns the exit status."""
        migrate(self._engine)
        status = StatusServer(self._worker.host, self._worker.port, self._registry, self._reasons_not_ready)
        status.start()
        self._reconciler.start()
        app = create_celery(self._settings.redis_url, timeout_s=self._queue.broker_timeout_s)
        app.conf.worker_enable_remote_control = False
        app.task(name=TASK_NAME)(self._on_wake_up)
        # Celery tells of these by signals. A strong reference: receivers are kept weakly by default.
        signals.worker_ready.connect(self._on_ready, weak=False)
        signals.worker_shutting_down.connect(self._on_shutting_down, weak=False)
        signals.setup_logging.connect(_keep_logging, weak=False)
        logger.info("worker starts", kinds=self._runners.kinds, status_port=status.port)
        exit_status = self._consume(app)
        self._reconciler.stop()
        status.stop()
        self._engine.dispose()
        logger.info("worker ended", exit_status=exit_status)
        return exit_status

    def _consume(self, app: Celery) -> int:
        worker = app.Worker(
            pool="solo",
            concurrency=1,
            queues=[QUEUE_NAME],
            loglevel=self._settings.log_level,
            without_mingle=True,
            without_gossip=True,
            without_heartbeat=True,
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)

    def _on_wake_up(self, job_id: str) -> str:
        return self._executor.run(job_id)

    def _on_ready(self, sender: Any, **_: Any) -> None:
        self._consumer = sender
        logger.info("worker ready")
        if self._worker.warm_up:
            threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        for kind in self._runners.kinds:
            try:
                self._runners.find(kind)
            except Exception:
                # The job that needs it will fail with this as its reason; others can still be run.
                logger.exception("runner cannot be imported", kind=kind)

    def _on_shutting_down(self, **_: Any) -> None:
        if self._shutdown.is_set():
            return
        self._shutdown.set()
        logger.info("worker stops", running=self._clock.is_running)
        threading.Thread(target=self._end_at_last, name="shutdown", daemon=True).start()

    def _end_at_last(self) -> None:
        """End the process if it has not ended by itself in time; a lease that is left behind expires."""
        time.sleep(self._worker.shutdown_s)
        running = self._clock.is_running
        logger.error("worker did not stop in time", shutdown_s=self._worker.shutdown_s, running=running)
        os._exit(1 if running else 0)

    def _reasons_not_ready(self) -> list[str]:
        reasons = []
        if self._shutdown.is_set():
            reasons.append("draining: the process was told to stop")
        if self._consumer is None or self._consumer.connection is None:
            reasons.append("not connected to Redis")
        if self._reconciler.database_problem:
            reasons.append(self._reconciler.database_problem)
        return reasons


def _folders(settings: CommonSettings) -> dict[str, Path]:
    """Return the folders that a worker reads and fills, by kind."""
    folders = {
        "data": settings.data_root,
        "runs": settings.runs_root,
        "repository": settings.repository_root,
        "var": settings.var_dir,
    }
    return {kind: folder for kind, folder in folders.items() if folder is not None}


def _keep_logging(**_: Any) -> None:
    """Keep Celery from configuring loggers: a receiver of this signal is all that it looks for."""


def main() -> None:
    settings = CommonSettings()
    configure_logging(settings, "worker")
    sys.exit(Worker(settings, WorkerSettings(), QueueSettings(), installed_runners()).run())


if __name__ == "__main__":
    main()
