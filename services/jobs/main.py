"""The jobs service: builds the application from settings; `python -m services.jobs` serves it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI

from services.jobs.metrics import QueueCollector, jobs_metrics
from services.jobs.routes import families, jobs
from services.jobs.settings import JobsServiceSettings
from services.jobs.state import JobsState
from services.jobs.watching import Watchers
from shared.core.http import create_service
from shared.core.settings import CommonSettings
from shared.core.telemetry import DiskCollector, new_registry
from shared.jobs.broker import WakeUps
from shared.jobs.database import create_database_engine
from shared.jobs.migrate import migrate
from shared.jobs.params import JOB_PARAMS, JobParams
from shared.jobs.reconciler import Reconciler, ReconcilerThread
from shared.jobs.settings import QueueSettings
from shared.jobs.store import JobStore
from shared.jobs.submission import Submitter


def create_app(
    settings: CommonSettings | None = None,
    service: JobsServiceSettings | None = None,
    queue: QueueSettings | None = None,
    params_models: Mapping[str, type[JobParams]] = JOB_PARAMS,
) -> FastAPI:
    """Return the application; settings that are not given come from the environment.

    The database is brought up to date and the reconciler started when the application starts.
    """
    settings = settings or CommonSettings()
    service = service or JobsServiceSettings()
    queue = queue or QueueSettings()
    assert settings.data_root is not None  # the settings fill it in
    engine = create_database_engine(settings.database_url)
    store = JobStore(engine, max_attempts=queue.max_attempts, max_events=queue.max_events)
    wake_ups = WakeUps(settings.redis_url, timeout_s=queue.broker_timeout_s)
    registry = new_registry()
    metrics = jobs_metrics(registry)
    registry.register(DiskCollector({"data": settings.data_root, "var": settings.var_dir}))
    state = JobsState(
        store=store,
        submitter=Submitter(
            store, wake_ups, settings, lambda outcome: metrics.wake_ups.labels(outcome).inc(), params_models
        ),
        watchers=Watchers(
            store, service.max_watchers, service.watch_poll_s, service.watch_heartbeat_s, metrics.watchers
        ),
        reconciler=ReconcilerThread(
            Reconciler(
                store,
                wake_ups,
                queue.wake_up_after_s,
                lambda reason: metrics.reconciled.labels(reason).inc(),
            ),
            queue.reconcile_s,
        ),
        metrics=metrics,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await anyio.to_thread.run_sync(migrate, engine)
        registry.register(QueueCollector(store))
        state.reconciler.start()
        yield
        await anyio.to_thread.run_sync(state.reconciler.stop)
        engine.dispose()

    app = create_service(
        name="jobs",
        title="Sightline jobs",
        description="Submit, watch, cancel, retry and list jobs.",
        settings=settings,
        lifespan=lifespan,
        routers=[jobs.router, families.router],
        ready=lambda app: _reasons_not_ready(state),
        max_body_bytes=service.max_body_bytes,
        registry=registry,
    )
    app.state.jobs = state
    return app


def _reasons_not_ready(state: JobsState) -> list[str]:
    # Redis is no reason: jobs are accepted without it and wait in the table.
    if not state.reconciler.is_alive:
        return ["the reconciler is not running"]
    return [state.reconciler.database_problem] if state.reconciler.database_problem else []
