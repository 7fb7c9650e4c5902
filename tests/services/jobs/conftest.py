"""The jobs service as a process-internal application and over a real socket."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from services.jobs.main import create_app
from services.jobs.settings import JobsServiceSettings
from shared.core.settings import CommonSettings
from shared.jobs.params import JOB_PARAMS, JobParams
from shared.jobs.settings import QueueSettings
from shared.jobs.store import JobStore
from tests.conftest import free_port


class StepsParams(JobParams):
    """A kind of job for tests."""

    steps: int = 1


@pytest.fixture
def settings(tmp_path: Path, redis_url: str) -> CommonSettings:
    return CommonSettings(
        var_dir=tmp_path, database_url=f"sqlite:///{tmp_path / 'jobs.db'}", redis_url=redis_url, api_keys=[]
    )


def build_app(settings: CommonSettings) -> FastAPI:
    return create_app(
        settings,
        JobsServiceSettings(max_watchers=2, watch_poll_s=0.05, watch_heartbeat_s=0.3),
        QueueSettings(reconcile_s=0.2, broker_timeout_s=1),
        {**JOB_PARAMS, "steps": StepsParams},
    )


@pytest.fixture
def app(settings: CommonSettings) -> FastAPI:
    return build_app(settings)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.fixture
def store(app: FastAPI) -> JobStore:
    return app.state.jobs.store


class RunningService:
    """The application behind a socket, in a thread."""

    def __init__(self, build: Callable[[], FastAPI]) -> None:
        self._build = build
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.app = self._build()  # one that was stopped does not start again
        config = uvicorn.Config(
            self.app, port=self.port, log_config=None, lifespan="on", timeout_graceful_shutdown=5
        )
        self._server = server = uvicorn.Server(config)
        self._thread = threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.02)

    def stop(self) -> None:
        if self._server is not None and self._thread is not None:
            self.app.state.draining = True
            self._server.should_exit = True
            self._thread.join(timeout=10)
            assert not self._thread.is_alive()
            self._server = None


@pytest.fixture
def service(settings: CommonSettings) -> Iterator[RunningService]:
    service = RunningService(lambda: build_app(settings))
    service.start()
    yield service
    service.stop()
