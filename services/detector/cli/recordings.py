"""Follow recordings of event cameras and write what was found: videos with boxes, documents, or both."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from services.detector.cli.annotate import SourceResult, Wanted, reason_of, result_file
from services.detector.cli.detections import FoundDetections
from services.detector.cli.pipeline import map_in_order, read_ahead
from services.detector.cli.report import RunProgress
from services.detector.cli.sources import Kind, Source, SourceProblem
from services.detector.cli.streams import (
    StreamPredictor,
    StreamRefused,
    first_start,
    groups,
    recording_windows,
    window_count,
)
from services.detector.cli.video import write_video
from services.detector.dataplane.streams.windows import Window
from shared.core.files import atomic_path
from shared.data.events.picture import window_picture, window_scale
from shared.data.events.recording import Recording, open_recording
from shared.data.events.repairs import MEANING, RecordingUnreadable, Repair
from shared.vision.boxes import Detections
from shared.vision.drawing import draw_detections

# Groups of windows that are read, and that are answered, ahead of the one that is drawn.
_AHEAD = 4
# What may end one recording without ending the run.
_RECORDING_ERRORS = (OSError, RecordingUnreadable, StreamRefused)


class RecordingAnnotator:
    """Follows recordings one after the other.

    sensor: (height, width) of all of them, instead of what the files state.
    """

    takes: frozenset[Kind] = frozenset({"recording"})

    def __init__(self, predictor: StreamPredictor, sensor: tuple[int, int] | None) -> None:
        self.predictor = predictor
        self._sensor = sensor

    def annotate(
        self, sources: Sequence[Source], folder: Path, wanted: Wanted, progress: RunProgress
    ) -> Iterator[SourceResult | SourceProblem]:
        """Yield one result per recording in order, each already written below `folder`."""
        for source in sources:
            on_window = progress.frames_of(source)
            try:
                yield self._annotate(source, folder, wanted, on_window)
            except _RECORDING_ERRORS as error:
                yield SourceProblem(str(source.path), reason_of(error))

    def _annotate(
        self, source: Source, folder: Path, wanted: Wanted, on_window: Callable[[int | None], None]
    ) -> SourceResult:
        recording = open_recording(source.path, self._sensor)
        _check_sensor(recording, self.predictor, stated=self._sensor is not None)
        window_us = self.predictor.window_us
        first_us, expected = _look_through(recording, window_us, wanted)
        result = SourceResult(source)
        with contextlib.ExitStack() as stack:
            follower = stack.enter_context(self.predictor.follow(first_start(first_us, window_us)))
            video = document = None
            if wanted.pictures:
                result.files.append(result_file(folder, source, ".mp4"))
                rate = 1e6 / window_us / wanted.every  # so that playing takes as long
                video = stack.enter_context(write_video(result.files[-1], rate))
            if wanted.documents:
                result.files.append(result_file(folder, source, ".json"))
                document = stack.enter_context(
                    _written_document(result.files[-1], source, self.predictor, follower.version, recording)
                )
            windows = _limited(recording_windows(recording.chunks(), window_us), wanted)
            ahead = stack.enter_context(contextlib.closing(read_ahead(groups(windows), _AHEAD)))
            # One worker: a window's answer needs the memory that the one before it left.
            answered = stack.enter_context(
                contextlib.closing(map_in_order(follower.answer, ahead, workers=1, window=_AHEAD))
            )
            for group, answers in answered:
                for window, found in zip(group, answers, strict=True):
                    if window.index % wanted.every:
                        continue
                    if video is not None:
                        video(_draw(window, found, recording.size))
                    if document is not None:
                        document(_describe(window, found))
                    result.images += 1
                    result.found += found.found
                    on_window(expected)
        result.repairs = recording.repairs.as_dict()
        if result.repairs:
            counted = (f"{count:,} {MEANING[Repair(kind)]}" for kind, count in result.repairs.items())
            result.warning = f"repaired: {'; '.join(counted)}"
        return result


def _check_sensor(recording: Recording, predictor: StreamPredictor, *, stated: bool) -> None:
    if recording.size == predictor.sensor_size:
        return
    (height, width), (own_height, own_width) = recording.size, predictor.sensor_size
    whence = ""
    if recording.repairs[Repair.SIZE_FROM_EVENTS]:
        whence = "; the file does not state it, this is by its events: --sensor says it"
    elif stated:
        whence = ", as --sensor says"
    raise StreamRefused(
        f"is of a sensor of {height} x {width} (height x width){whence}; {predictor.model} is for "
        f"{own_height} x {own_width}"
    )


def _look_through(recording: Recording, window_us: int, wanted: Wanted) -> tuple[int, int | None]:
    """Return the time of the first event, and how many windows will be shown.

    Without a limit the whole recording is read, so that what is wrong in it shows before hours were spent.
    """
    first_us = last_us = None
    for chunk in recording.chunks():
        first_us = int(chunk.t[0]) if first_us is None else first_us
        last_us = int(chunk.t[-1])
        if wanted.limit is not None:
            return first_us, wanted.limit
    assert first_us is not None  # chunks() raises where there is no event
    assert last_us is not None
    return first_us, -(-window_count(first_us, last_us, window_us) // wanted.every)


def _limited(windows: Iterator[Window], wanted: Wanted) -> Iterator[Window]:
    """Yield the windows up to the last that is shown: those between are needed too, for the memory."""
    last = None if wanted.limit is None else (wanted.limit - 1) * wanted.every
    for window in windows:
        yield window
        if window.index == last:
            return


def _draw(window: Window, found: FoundDetections, size: tuple[int, int]) -> Any:
    picture = window_picture(window.events, size, window.end_us)
    boxes = found.detections.boxes * window_scale(size)
    return draw_detections(
        picture, Detections(boxes, found.detections.scores, found.detections.labels), found.labels
    )


def _describe(window: Window, found: FoundDetections) -> dict[str, Any]:
    return {
        "index": window.index,
        "start_us": window.start_us,
        "end_us": window.end_us,
        "detections": found.describe(),
    }


@contextlib.contextmanager
def _written_document(
    path: Path, source: Source, predictor: StreamPredictor, version: int, recording: Recording
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield a function that appends a window to the document, which is not held in memory."""
    height, width = recording.size
    head = {
        "source": str(source.path),
        "model": predictor.model,
        "version": version,
        "sensor": {"height": height, "width": width},
        "window_us": predictor.window_us,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(orjson.dumps(head)[:-1] + b',\n"windows": [')
        separator = b"\n"

        def append(window: dict[str, Any]) -> None:
            nonlocal separator
            file.write(separator + orjson.dumps(window))
            separator = b",\n"

        yield append
        file.write(b'\n],\n"repairs": ' + orjson.dumps(recording.repairs.as_dict()) + b"}\n")
