"""What the lifespan hands to every request."""

from dataclasses import dataclass
from typing import TypedDict

from starlette.requests import HTTPConnection

from services.detector.admission import BodyBudget
from services.detector.dataplane.control import ModelControl
from services.detector.dataplane.registry import ModelRegistry
from services.detector.dataplane.streams.table import StreamTable
from services.detector.dataplane.watcher import RepositoryWatcher
from services.detector.oip.sequences import Sequences
from services.detector.settings import DetectorSettings
from shared.repository import ModelRepository


@dataclass(frozen=True, slots=True)
class Detector:
    settings: DetectorSettings
    repository: ModelRepository
    registry: ModelRegistry
    watcher: RepositoryWatcher
    control: ModelControl
    body_budget: BodyBudget
    streams: StreamTable
    sequences: Sequences


class LifespanState(TypedDict):
    detector: Detector


def detector_of(request: HTTPConnection) -> Detector:
    """Return the detector that answers this request or this WebSocket."""
    detector: Detector = request.state.detector
    return detector


def reasons_not_ready(detector: Detector) -> list[str]:
    """Return why requests cannot be answered as asked for; empty when they can."""
    watcher, models = detector.watcher, detector.registry.models()
    reasons = [watcher.problem] if watcher.problem else []
    serving = [model for model in models.values() if model.serving]
    loading = [
        f"version {model.loading} of {name} is being loaded"
        for name, model in models.items()
        if model.loading is not None and not model.serving
    ]
    if not watcher.scanned:
        return reasons + (loading or ["the repository is being read"])
    if not serving:
        root = detector.repository.root
        empty = f"repository {root} holds no model; export one, or point SIGHTLINE_REPOSITORY_ROOT elsewhere"
        reasons += failures(detector) or loading or [empty if not models else f"no model in {root} is live"]
    if not detector.settings.allow_provider_fallback:
        reasons += [
            f"{name} version {version}: {loaded.session.provider_asked} was asked for and "
            f"{loaded.session.provider} is what runs; install onnxruntime-gpu and its driver, or set "
            "SIGHTLINE_DETECTOR_ALLOW_PROVIDER_FALLBACK=true"
            for name, model in models.items()
            for version, loaded in model.loaded.items()
            if loaded.session.fell_back
        ]
    return reasons


def failures(detector: Detector) -> list[str]:
    """Return what is wrong with any model, although others, or its earlier version, still answer."""
    return [
        f"{name}: {failure}"
        for name, model in detector.registry.models().items()
        for failure in model.failures.values()
    ]
