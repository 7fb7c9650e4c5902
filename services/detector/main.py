"""The detector's application: everything is put together here and nowhere else."""

import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import cv2
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware

from services.detector.admission import BodyBudget
from services.detector.dataplane.batching import BatchPolicy
from services.detector.dataplane.control import ModelControl
from services.detector.dataplane.loading import LoadOptions, VersionLoader
from services.detector.dataplane.registry import ModelRegistry
from services.detector.dataplane.session import SessionOptions
from services.detector.dataplane.streams.stream import StreamLimits
from services.detector.dataplane.streams.table import StreamTable
from services.detector.dataplane.streams.windows import WindowLimits
from services.detector.dataplane.watcher import RepositoryWatcher
from services.detector.fast_lane import FastLane, Lane
from services.detector.metrics import DetectorMetrics
from services.detector.oip import routes as oip
from services.detector.oip.problems import ERROR_FORM, PREFIX
from services.detector.oip.routes import infer as oip_infer
from services.detector.oip.sequences import Sequences
from services.detector.routes import classify, detect, models, stream_socket
from services.detector.routes import streams as stream_routes
from services.detector.schemas import ClassifyFields, ThresholdFields
from services.detector.settings import DetectorSettings, available_cores
from services.detector.state import Detector, LifespanState, failures, reasons_not_ready
from shared.core.http import create_service
from shared.core.settings import CommonSettings
from shared.core.telemetry import DiskCollector, new_registry
from shared.repository import ModelRepository

SERVICE = "detector"
_NO_THRESHOLDS = {"thresholds": ThresholdFields()}
_NO_FIELDS = {"fields": ClassifyFields()}
_LANES = [
    Lane("/v1/models/{model}/detect", detect.detect, _NO_THRESHOLDS),
    Lane("/v1/models/{model}/versions/{version}/detect", detect.detect_with_version, _NO_THRESHOLDS),
    Lane("/v1/models/{model}/classify", classify.classify, _NO_FIELDS),
    Lane("/v1/models/{model}/versions/{version}/classify", classify.classify_with_version, _NO_FIELDS),
    Lane(f"{PREFIX}/models/{{model}}/infer", oip_infer.infer),
    Lane(f"{PREFIX}/models/{{model}}/versions/{{version}}/infer", oip_infer.infer_with_version),
]


def create_app(common: CommonSettings, settings: DetectorSettings) -> FastAPI:
    """Return the application; models are loaded once its lifespan has begun."""
    metrics_registry = new_registry()
    detector = _create_detector(common, settings, metrics_registry)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[LifespanState]:
        cv2.setNumThreads(1)  # pictures are what runs side by side here, not the rows of one picture
        detector.streams.start()
        detector.watcher.start()
        try:
            yield {"detector": detector}
        finally:
            detector.streams.close()
            detector.watcher.stop(settings.drain_s)

    app = create_service(
        name=SERVICE,
        title="Sightline detector",
        description="Finds objects in pictures, with the models that the repository calls live.",
        settings=common,
        lifespan=lifespan,
        routers=[
            models.router,
            detect.router,
            classify.router,
            stream_routes.router,
            stream_socket.router,
            oip.router,
        ],
        ready=lambda _: reasons_not_ready(detector),
        warnings=lambda _: failures(detector),
        max_body_bytes=settings.max_body_bytes,
        body_timeout_s=settings.body_timeout_s,
        registry=metrics_registry,
        error_forms=[ERROR_FORM],
        websockets=True,
    )
    # Behind the shell that checks keys and limits, in front of everything that the framework adds.
    app.user_middleware.append(Middleware(FastLane, lanes=_LANES))
    return app


def _create_detector(
    common: CommonSettings, settings: DetectorSettings, metrics_registry: CollectorRegistry
) -> Detector:
    assert common.repository_root is not None  # filled in by its validator
    repository = ModelRepository(common.repository_root)
    registry = ModelRegistry(settings.aliases[0])
    metrics = DetectorMetrics(metrics_registry)
    metrics_registry.register(DiskCollector({"repository": common.repository_root}))
    on_cpu = settings.provider == "cpu"
    options = LoadOptions(
        session=SessionOptions(
            settings.provider,
            settings.intra_op_threads or 1,
            settings.inter_op_threads,
            settings.cuda_graphs,
            settings.tensorrt_cache,
        ),
        wide_threads=settings.wide_threads,
        policy=BatchPolicy(
            queue_size=settings.queue_size, queue_s=settings.queue_s, instances=settings.worker_threads
        ),
        max_batch=1 if settings.max_batch is None and on_cpu else settings.max_batch,
        max_delay_s=None if settings.max_delay_ms is None else settings.max_delay_ms / 1000,
        max_pixels=settings.max_pixels,
        jpeg_quality=settings.jpeg_quality,
    )
    pool = ThreadPoolExecutor(settings.decode_threads or available_cores(), thread_name_prefix="decode")
    streams = StreamTable(
        registry,
        StreamLimits(
            streams=settings.max_streams,
            idle_s=settings.stream_idle_s,
            window=WindowLimits(settings.stream_max_windows, settings.stream_max_window_events),
            wait_s=settings.deadline_s,
            compute_timeout_s=settings.compute_timeout_s,
        ),
        metrics,
        pool,
    )
    watcher = RepositoryWatcher(
        repository,
        registry,
        VersionLoader(repository, options, metrics, pool),
        metrics,
        aliases=settings.aliases,
        poll_interval_s=settings.poll_interval_s,
        retry_max_s=settings.retry_max_s,
        end_streams=streams.end_model_soon,
    )
    budget = BodyBudget(settings.max_held_bytes, settings.max_body_bytes)
    control = ModelControl(registry, watcher)
    return Detector(settings, repository, registry, watcher, control, budget, streams, Sequences(streams))
