"""Detection in streams of events: the window's input before the graph, boxes and the next states after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.problems import WrongTask
from services.detector.dataplane.session import Tensors, UnusableGraph
from services.detector.dataplane.tasks.candidates import CandidateFilter, Overrides
from shared.repository.manifest import EventPreprocessing, Manifest, TensorSpec
from shared.vision.boxes import Detections, clip_boxes
from shared.vision.event_stacks import REPRESENTATIONS, Representation
from shared.vision.events import Events

_OUTPUTS = ("boxes", "scores", "labels")


@dataclass(frozen=True, slots=True)
class WindowResult:
    """Detections in pixels of the sensor, and the states [1, …] for the next window by the input's name."""

    detections: Detections
    states: Tensors


@dataclass(frozen=True, slots=True)
class RawResult:
    """Every output of the graph [1, …] that is no state, and the states for the next window."""

    outputs: Tensors
    states: Tensors


class StreamDetectionTask:
    """Pre- and post-processing of one version, as its manifest states it.

    sensor_size: (height, width) in pixels. window_shape: (C, H, W) of one window in the graph's input.
    """

    name = "stream_detection"

    def __init__(self, manifest: Manifest, *, max_pixels: int, jpeg_quality: int) -> None:
        """Raise UnusableGraph for a manifest whose tensors are not those of its windows and states."""
        preprocessing = manifest.preprocessing
        assert isinstance(preprocessing, EventPreprocessing)  # the manifest refuses a stream model without
        self.labels = manifest.labels
        self.window_us = preprocessing.window_ms * 1000
        self.sensor_size = (preprocessing.sensor_height, preprocessing.sensor_width)
        self._model = manifest.name
        self.representation = preprocessing.representation
        self._halved = preprocessing.halved
        self._candidates = CandidateFilter(manifest)
        self._next = {state.input: state.output for state in manifest.states}
        self.represent: Representation = REPRESENTATIONS.load(preprocessing.representation)(
            bins=preprocessing.bins
        )
        self.window_shape = (self.represent.channels, preprocessing.height, preprocessing.width)
        self.window_dtype: np.dtype[Any] = self.represent.dtype
        (self._input,) = self._checked(manifest)
        self._zeros = {
            spec.name: np.zeros((1, *spec.shape[1:]), spec.dtype)
            for spec in manifest.inputs
            if spec.name in self._next
        }

    def zero_states(self) -> Tensors:
        """Return what a stream begins with: zeros [1, …] for each state; not to be written to."""
        return dict(self._zeros)

    def check(self, overrides: Overrides) -> None:
        """Raise FixedSuppression where this version cannot do as asked."""
        self._candidates.check(overrides)

    def work(self, window: Events | NDArray[Any], states: Tensors, overrides: Overrides) -> "WindowWork":
        """Return the work on one window: its events, or its input [C, H, W]."""
        return WindowWork(self, window, states, overrides)

    def raw_work(self, window: NDArray[Any], states: Tensors) -> "RawWindowWork":
        """Return the work on one window [C, H, W] for clients that take the graph's outputs as they are."""
        return RawWindowWork(self, window, states)

    def picture_tensors(self, data: bytes, parameters: Mapping[str, Any]) -> Never:
        """Raise WrongTask: there is nothing to see in one picture."""
        raise WrongTask(
            f"{self._model} is a {self.name} model and takes no pictures; open a stream with "
            f"POST /v1/models/{self._model}/streams"
        )

    def inputs(self, window: Events | NDArray[Any], states: Tensors) -> Tensors:
        """Return the graph's inputs [1, …] for one window."""
        if isinstance(window, Events):
            window = self.represent(window, self.sensor_size, half=self._halved)
        return {self._input: window[None], **states}

    def next_states(self, outputs: Tensors) -> Tensors:
        """Return the states for the next window from the graph's outputs [1, …]."""
        return {name: _owned(outputs[output]) for name, output in self._next.items()}

    def without_states(self, outputs: Tensors) -> Tensors:
        """Return the outputs that are no state."""
        states = set(self._next.values())
        return {name: tensor for name, tensor in outputs.items() if name not in states}

    def detections(self, outputs: Tensors, overrides: Overrides) -> Detections:
        """Return what is left of a window's candidates, in pixels of the sensor.

        outputs: as CandidateFilter.keep has them; boxes are clipped to the sensor.
        """
        kept = self._candidates.keep(outputs, overrides)
        boxes = kept.boxes * np.float32(2 if self._halved else 1)
        return Detections(clip_boxes(boxes, *self.sensor_size), kept.scores, kept.labels)

    def _checked(self, manifest: Manifest) -> list[str]:
        """Return the names of the inputs that are no state, of which there is one."""
        windows = [spec for spec in manifest.inputs if spec.name not in self._next]
        whole = f"{manifest.name} version {manifest.version}"
        wanted = [-1, *self.window_shape]
        if len(windows) != 1 or windows[0].shape != wanted or windows[0].dtype != self.window_dtype.name:
            raise UnusableGraph(
                f"{whole} has the inputs {[_described(spec) for spec in windows]} beside its states, and its "
                f"windows are {self.window_dtype} {wanted}; export it again"
            )
        for spec in manifest.inputs:
            if spec.shape[0] != -1 or min(spec.shape[1:], default=1) < 1:
                raise UnusableGraph(f"{whole}: {_described(spec)} may be free in its batch alone")
        if missing := set(_OUTPUTS) - {spec.name for spec in manifest.outputs}:
            raise UnusableGraph(f"{whole} has no output {', '.join(sorted(missing))}; export it again")
        return [spec.name for spec in windows]


class WindowWork:
    """One window on its way through a batch: `prepare` before the graph, `finish` after it."""

    rows = 1

    def __init__(
        self,
        task: StreamDetectionTask,
        window: Events | NDArray[Any],
        states: Tensors,
        overrides: Overrides,
    ) -> None:
        self._task = task
        self._window = window
        self._states = states
        self._overrides = overrides

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        return self._task.inputs(self._window, self._states)

    def finish(self, outputs: Tensors) -> WindowResult:
        """Return the answer from this window's rows of the graph's outputs."""
        return WindowResult(self._task.detections(outputs, self._overrides), self._task.next_states(outputs))


class RawWindowWork:
    """As WindowWork, for clients that take tensors."""

    rows = 1

    def __init__(self, task: StreamDetectionTask, window: NDArray[Any], states: Tensors) -> None:
        self._task = task
        self._window = window
        self._states = states

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        return self._task.inputs(self._window, self._states)

    def finish(self, outputs: Tensors) -> RawResult:
        """Return the answer from this window's rows of the graph's outputs."""
        return RawResult(self._task.without_states(outputs), self._task.next_states(outputs))


def _described(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} {spec.shape}"


def _owned(tensor: NDArray[Any]) -> NDArray[Any]:
    """A state that keeps no more than itself: a row of a batch would hold on to all the others."""
    base = tensor.base
    return tensor if not isinstance(base, np.ndarray) or base.nbytes == tensor.nbytes else tensor.copy()
