"""Recordings followed in this process, by the detector's own data plane on a version of the repository."""

import contextlib
from collections.abc import Iterator, Sequence

from services.detector.cli.detections import FoundDetections, refuse_heatmap
from services.detector.cli.local import open_here
from services.detector.cli.predictors import Asked
from services.detector.cli.streams import Follower
from services.detector.dataplane.session import Session
from services.detector.dataplane.streams.windows import Window
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from services.detector.settings import DetectorSettings
from shared.repository.manifest import Manifest
from shared.repository.repository import ModelRepository


class LocalStreamPredictor:
    """Runs one version, with as many threads as there are cores: windows have to wait for each other.

    Raises UnusableGraph if ONNX Runtime refuses it or the provider asked for is not there, UnsupportedAnswer
    or FixedSuppression for what the model cannot do.
    """

    finds = "detections"

    def __init__(
        self,
        repository: ModelRepository,
        manifest: Manifest,
        asked: Asked,
        settings: DetectorSettings,
        *,
        threads: int | None = None,
    ) -> None:
        refuse_heatmap(asked)
        self._task = StreamDetectionTask(
            manifest, max_pixels=settings.max_pixels, jpeg_quality=settings.jpeg_quality
        )
        self._overrides = Overrides(**asked.thresholds)  # type: ignore[arg-type]
        self._task.check(self._overrides)
        threads = settings.intra_op_threads or threads or settings.worker_threads
        self._session = open_here(repository, manifest, settings, threads=threads)
        self._version = manifest.version
        self.model = manifest.name
        self.source = f"{repository.root} (version {manifest.version}, {manifest.precision})"
        self.sensor_size = self._task.sensor_size
        self.window_us = self._task.window_us

    @contextlib.contextmanager
    def follow(self, start_us: int) -> Iterator[Follower]:
        """See StreamPredictor; the start is of no matter here."""
        yield _LocalFollower(self._task, self._session, self._overrides, self._version)

    def close(self) -> None:
        """Nothing to do: the session goes with the object."""


class _LocalFollower:
    def __init__(
        self, task: StreamDetectionTask, session: Session, overrides: Overrides, version: int
    ) -> None:
        self._task = task
        self._session = session
        self._overrides = overrides
        self._states = task.zero_states()
        self.version = version

    def answer(self, windows: Sequence[Window]) -> list[FoundDetections]:
        """See Follower. Raises InferenceFailed if the model answers with numbers that are not finite."""
        return [self._step(window) for window in windows]

    def _step(self, window: Window) -> FoundDetections:
        outputs = self._session.run(self._task.inputs(window.events, self._states))
        self._states = self._task.next_states(outputs)
        height, width = self._task.sensor_size
        found = self._task.detections(outputs, self._overrides)
        return FoundDetections(found, self._task.labels, width, height, self.version)
