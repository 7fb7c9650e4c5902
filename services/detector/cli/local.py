"""Predictions made in this process, by the detector's own data plane on a version of the repository."""

from collections.abc import Sequence

import numpy as np

from services.detector.cli.predictors import Picture, PictureRefused, Prediction
from services.detector.dataplane.session import SessionOptions, Tensors, UnusableGraph, open_session
from services.detector.dataplane.tasks.detection import DetectionTask, Overrides
from services.detector.settings import DetectorSettings
from shared.repository.manifest import MODEL_FILE
from shared.repository.repository import ModelRepository
from shared.vision.letterbox import Letterbox


class LocalPredictor:
    """Runs one version; its session may be used by several threads at once.

    Provider and threads are the detector's settings, so that it computes as that would.
    Raises CorruptVersion if its files are not what the manifest says, UnusableGraph if ONNX Runtime refuses
    it or the provider asked for is not there, FixedSuppression for an IoU threshold that cannot be applied.
    """

    def __init__(
        self,
        repository: ModelRepository,
        model: str,
        version: int,
        overrides: Overrides,
        settings: DetectorSettings,
        *,
        concurrency: int | None = None,
    ) -> None:
        manifest = repository.verify(model, version)
        options = SessionOptions(settings.provider, settings.intra_op_threads)
        self._session = open_session(repository.path(model, version) / MODEL_FILE, manifest, options)
        if self._session.fell_back and not settings.allow_provider_fallback:
            raise UnusableGraph(
                f"{self._session.provider_asked} is not there, ONNX Runtime would use "
                f"{self._session.provider}; set SIGHTLINE_DETECTOR_PROVIDER=cpu to do so"
            )
        self._task = DetectionTask(
            manifest, max_pixels=settings.max_pixels, jpeg_quality=settings.jpeg_quality
        )
        self._task.work(b"", overrides)  # refuses what this version cannot do, before any picture is read
        self._overrides = overrides
        self._version = version
        self.model = model
        self.source = f"{repository.root} (version {version}, {manifest.precision})"
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
            return self._task.pictures.letterbox(picture.rgb)
        except PictureRefused as error:
            return error

    def _run(self, prepared: list[tuple[Tensors, Letterbox]]) -> list[Prediction]:
        names = prepared[0][0].keys()
        outputs = self._session.run(
            {name: np.concatenate([inputs[name] for inputs, _ in prepared]) for name in names}
        )
        predictions = []
        for row, (_, geometry) in enumerate(prepared):
            one = {name: values[row : row + 1] for name, values in outputs.items()}
            height, width = geometry.source_size
            found = self._task.detections(one, geometry, self._overrides)
            predictions.append(Prediction(found, self._task.labels, width, height, self._version))
        return predictions
