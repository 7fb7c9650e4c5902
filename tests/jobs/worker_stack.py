"""A job table, a queue and worker processes for tests."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from shared.core.settings import CommonSettings
from shared.jobs.broker import BrokerAway, WakeUps
from shared.jobs.database import create_database_engine
from shared.jobs.migrate import migrate
from shared.jobs.schema import Job
from shared.jobs.store import JobStore
from tests.conftest import free_port

PROCESS = Path(__file__).with_name("worker_process.py")
LEASE_S = 1.0
DEADLINE_S = 30.0


def wait_for(what: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    deadline = time.monotonic() + deadline_s
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class Stack:
    """A job table, a queue, and the workers that a test starts."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder = folder
        self.settings = CommonSettings(var_dir=folder, database_url=database_url, redis_url=redis_url)
        self._engine = create_database_engine(database_url)
        migrate(self._engine)
        self.store = JobStore(self._engine)
        self.wake_ups = WakeUps(redis_url, timeout_s=1.0)
        self._workers: list[subprocess.Popen[bytes]] = []
        self.status_urls: dict[int, str] = {}

    def start_worker(self, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker (with the runners for tests, or what `command` says) and wait until it is ready."""
        port = free_port()
        names = {
            "SIGHTLINE_VAR_DIR": str(self.folder),
            "SIGHTLINE_DATABASE_URL": self.settings.database_url,
            "SIGHTLINE_REDIS_URL": self.settings.redis_url,
            "SIGHTLINE_WORKER_PORT": str(port),
            "SIGHTLINE_QUEUE_LEASE_S": str(LEASE_S),
            "SIGHTLINE_QUEUE_RECONCILE_S": "0.2",
            "SIGHTLINE_QUEUE_CANCEL_POLL_S": "0.1",
            "SIGHTLINE_QUEUE_RETRY_DELAY_S": "0.1",
            "SIGHTLINE_QUEUE_WAKE_UP_AFTER_S": "1",
        }
        log = (self.folder / f"worker-{len(self._workers)}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, *(command or [str(PROCESS)])],
            env={**os.environ, **names, **environment},
            stdout=log,
            stderr=log,
        )
        log.close()
        self._workers.append(worker)
        self.status_urls[worker.pid] = url = f"http://127.0.0.1:{port}"
        wait_for(lambda: self.answers(url + "/readyz"))
        return worker

    def answers(self, url: str) -> bool:
        try:
            return httpx.get(url).status_code == 200
        except httpx.TransportError:
            return False

    def metrics(self, worker: subprocess.Popen[bytes]) -> str:
        return httpx.get(self.status_urls[worker.pid] + "/metrics").text

    def submit(self, kind: str = "steps", **params: object) -> str:
        job, _ = self.store.submit(kind, params)
        try:
            self.wake_ups.publish(job.id)
        except BrokerAway:
            self.store.want_wake_ups([job.id])
        return job.id

    def steps_done(self, job_id: str) -> list[str]:
        record = self.folder / "runs" / job_id / "steps.txt"
        return record.read_text().splitlines() if record.exists() else []

    def wait_for_end(self, job_id: str, deadline_s: float = DEADLINE_S) -> Job:
        wait_for(lambda: self.store.get(job_id).state.is_final, deadline_s)
        return self.store.get(job_id)

    def close(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait(timeout=10)
        self._engine.dispose()
