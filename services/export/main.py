"""The export service: builds the application from settings; `python -m services.export` serves it.

Torch-free: it submits jobs, and a worker does what they ask (services.export.job).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from services.export.metrics import export_metrics
from services.export.routes import exports, runs
from services.export.settings import ExportServiceSettings
from services.export.state import ExportState
from shared.core.http import create_service
from shared.core.settings import CommonSettings
from shared.core.telemetry import DiskCollector, new_registry
from shared.jobs.broker import WakeUps
from shared.jobs.database import create_database_engine
from shared.jobs.migrate import migrate
from shared.jobs.settings import QueueSettings
from shared.jobs.store import JobStore
from shared.jobs.submission import Submitter


def create_app(
    settings: CommonSettings | None = None,
    service: ExportServiceSettings | None = None,
    queue: QueueSettings | None = None,
) -> FastAPI:
    """Return the application; settings that are not given come from the environment.

    The database is brought up to date when the application starts.
    """
    settings = settings or CommonSettings()
    service = service or ExportServiceSettings()
    queue = queue or QueueSettings()
    assert settings.runs_root is not None  # the settings fill it in
    engine = create_database_engine(settings.database_url)
    store = JobStore(engine, max_attempts=queue.max_attempts, max_events=queue.max_events)
    wake_ups = WakeUps(settings.redis_url, timeout_s=queue.broker_timeout_s)
    registry = new_registry()
    metrics = export_metrics(registry)
    registry.register(DiskCollector({"runs": settings.runs_root}))
    submitter = Submitter(store, wake_ups, settings, lambda outcome: metrics.wake_ups.labels(outcome).inc())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(migrate, engine)
        yield
        engine.dispose()

    app = create_service(
        name="export",
        title="Sightline export",
        description="Turn runs into versions of the model repository, through the gate.",
        settings=settings,
        lifespan=lifespan,
        routers=[exports.router, runs.router],
        ready=lambda app: [],  # serving begins once the database has been reached
        max_body_bytes=service.max_body_bytes,
        registry=registry,
    )
    app.state.export = ExportState(store, submitter, settings.runs_root, metrics)
    return app
