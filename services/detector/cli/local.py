"""Predictions made in this process, by the detector's own data plane on a version of the repository."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np

from services.detector.cli.detections import LocalDetections
from services.detector.cli.labels import LocalLabels
from services.detector.cli.predictors import Asked, Picture, PictureRefused, Prediction
from services.detector.dataplane.session import (
    Session,
    SessionOptions,
    Tensors,
    UnusableGraph,
    open_session,
)
from services.detector.dataplane.tasks.pictures import PictureInput
from services.detector.settings import DetectorSettings
from shared.repository.manifest import MODEL_FILE, Manifest
from shared.repository.repository import ModelRepository
from shared.vision.letterbox import Letterbox


class Answers(Protocol):
    """How the outputs of one task's graphs are read."""

    finds: str
    pictures: PictureInput

    def answer(self, outputs: Tensors, geometry: Letterbox) -> Prediction:
        """Return what one picture's outputs say."""


_ANSWERS: Mapping[str, Callable[[Manifest, DetectorSettings, Asked], Answers]] = MappingProxyType(
    {"detection": LocalDetections, "classification": LocalLabels}
)


def open_here(
    repository: ModelRepository, manifest: Manifest, settings: DetectorSettings, *, threads: int
) -> Session:
    """Open a version's graph on the provider of the detector's settings, so that it computes as that would.

    Raises UnusableGraph if ONNX Runtime refuses it or the provider asked for is not there.
    """
    model = repository.path(manifest.name, manifest.version) / MODEL_FILE
    session = open_session(model, manifest, SessionOptions(settings.provider, threads))
    if session.fell_back and not settings.allow_provider_fallback:
        raise UnusableGraph(
            f"{session.provider_asked} is not there, ONNX Runtime would use {session.provider}; "
            "set SIGHTLINE_DETECTOR_PROVIDER=cpu to do so"
        )
    return session


class LocalPredictor:
    """Runs one version; its session may be used by several threads at once.

    Raises UnusableGraph if ONNX Runtime refuses it or the provider asked for is not there, UnsupportedAnswer,
    FixedSuppression or NoActivationMaps for what the model cannot do.
    """

    def __init__(
        self,
        repository: ModelRepository,
        manifest: Manifest,
        asked: Asked,
        settings: DetectorSettings,
        *,
        concurrency: int | None = None,
    ) -> None:
        self._session = open_here(repository, manifest, settings, threads=settings.intra_op_threads or 1)
        self._answers = _ANSWERS[manifest.task](manifest, settings, asked)
        self.finds = self._answers.finds
        self.model = manifest.name
        self.source = f"{repository.root} (version {manifest.version}, {manifest.precision})"
        self.concurrency = concurrency or settings.worker_threads

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction | PictureRefused]:
        """See Predictor. Raises InferenceFailed if the model answers with numbers that are not finite."""
        prepared = [self._prepare(picture) for picture in pictures]
        ready = [one for one in prepared if not isinstance(one, PictureRefused)]
        predictions = iter(self._run(ready) if ready else [])
        return [one if isinstance(one, PictureRefused) else next(predictions) for one in prepared]

    def close(self) -> None:
        """Nothing to do: the session goes with the object."""

    def _prepare(self, picture: Picture) -> tuple[Tensors, Letterbox] | PictureRefused:
        try:
            return self._answers.pictures.letterbox(picture.rgb)
        except PictureRefused as error:
            return error

    def _run(self, prepared: list[tuple[Tensors, Letterbox]]) -> list[Prediction]:
        names = prepared[0][0].keys()
        outputs = self._session.run(
            {name: np.concatenate([inputs[name] for inputs, _ in prepared]) for name in names}
        )
        return [
            self._answers.answer({name: values[row : row + 1] for name, values in outputs.items()}, geometry)
            for row, (_, geometry) in enumerate(prepared)
        ]
