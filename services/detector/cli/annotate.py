"""Predict on pictures and videos and write what was found: annotated copies, documents, or both."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from services.detector.cli.pipeline import batches, map_in_order, read_ahead
from services.detector.cli.predictors import Picture, PictureRefused, Prediction, Predictor
from services.detector.cli.results import describe_picture
from services.detector.cli.sources import Kind, Source, SourceProblem
from services.detector.cli.video import ASSUMED_FRAMES_PER_S, Frame, UnreadableVideo, VideoReader, write_video
from shared.core.files import atomic_path, write_atomic
from shared.vision.drawing import encode_jpeg

if TYPE_CHECKING:
    from services.detector.cli.report import RunProgress

# Far above any camera's picture; keeps a wrongly named 50 GB file out of memory.
MAX_PICTURE_BYTES = 256 * 1024**2
# What may end one source without ending the run.
_SOURCE_ERRORS = (OSError, PictureRefused, UnreadableVideo)
_READABLE = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to write and how much to read: every `every`-th frame, at most `limit` frames of each video."""

    pictures: bool = True
    documents: bool = True
    batch: int = 1
    every: int = 1
    limit: int | None = None


@dataclass(slots=True)
class SourceResult:
    """What came of one picture, video or recording.

    images: pictures, frames or windows. document: the picture's; the others have theirs in a file. repairs:
    what was set right in a recording, counted by kind.
    """

    source: Source
    images: int = 0
    found: int = 0
    files: list[Path] = field(default_factory=list)
    document: dict[str, Any] | None = None
    warning: str | None = None
    repairs: dict[str, int] = field(default_factory=dict)


class PictureAnnotator:
    """Predicts on pictures, several at once, and then on videos, one after the other."""

    takes: frozenset[Kind] = frozenset({"picture", "video"})

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def annotate(
        self, sources: Sequence[Source], folder: Path, wanted: Wanted, progress: "RunProgress"
    ) -> Iterator[SourceResult | SourceProblem]:
        """Yield one result per source, each already written below `folder`."""
        pictures = [source for source in sources if source.kind == "picture"][: wanted.limit]
        on_picture = progress.pictures(len(pictures))
        for result in annotate_pictures(pictures, self.predictor, folder, wanted):
            yield result
            on_picture()
        for video in (source for source in sources if source.kind == "video"):
            yield annotate_video(video, self.predictor, folder, wanted, progress.frames_of(video))


def annotate_pictures(
    sources: Sequence[Source], predictor: Predictor, folder: Path, wanted: Wanted
) -> Iterator[SourceResult | SourceProblem]:
    """Yield one result per picture in order, each already written below `folder`."""
    work = partial(_annotate_batch, predictor=predictor, folder=folder, wanted=wanted)
    workers = predictor.concurrency
    for _, results in map_in_order(work, batches(sources, wanted.batch), workers=workers, window=2 * workers):
        yield from results


def annotate_video(
    source: Source,
    predictor: Predictor,
    folder: Path,
    wanted: Wanted,
    on_frame: Callable[[int | None], None],
) -> SourceResult | SourceProblem:
    """Predict on one video: one thread decodes, `predictor.concurrency` predict, this one draws and encodes.

    `on_frame` is called after every frame with the number expected in all, None if the file does not say.
    """
    try:
        return _annotate_video(source, predictor, folder, wanted, on_frame)
    except _SOURCE_ERRORS as error:
        return SourceProblem(str(source.path), reason_of(error))


def _annotate_batch(
    sources: Sequence[Source], *, predictor: Predictor, folder: Path, wanted: Wanted
) -> list[SourceResult | SourceProblem]:
    loaded = [_load(source) for source in sources]
    predictions = iter(predictor.predict([picture for picture in loaded if isinstance(picture, Picture)]))
    results: list[SourceResult | SourceProblem] = []
    for source, picture in zip(sources, loaded, strict=True):
        if isinstance(picture, SourceProblem):
            results.append(picture)
            continue
        try:
            prediction = _accepted(next(predictions))
            results.append(_write_picture(source, picture, prediction, predictor, folder, wanted))
        except _SOURCE_ERRORS as error:
            results.append(SourceProblem(str(source.path), reason_of(error)))
    return results


def _load(source: Source) -> Picture | SourceProblem:
    try:
        size = source.path.stat().st_size
        if size > MAX_PICTURE_BYTES:
            limit_mib = MAX_PICTURE_BYTES // 1024**2
            return SourceProblem(
                str(source.path), f"{size:,} bytes are too many for a picture ({limit_mib} MiB)"
            )
        return Picture(data=source.path.read_bytes())
    except OSError as error:
        return SourceProblem(str(source.path), reason_of(error))


def _write_picture(
    source: Source,
    picture: Picture,
    prediction: Prediction,
    predictor: Predictor,
    folder: Path,
    wanted: Wanted,
) -> SourceResult:
    document = describe_picture(str(source.path), predictor, prediction)
    result = SourceResult(source, images=1, found=prediction.found, document=document)
    if wanted.pictures:
        drawn = prediction.draw(picture.rgb)
        result.files.append(result_file(folder, source, ".jpg"))
        write_atomic(result.files[-1], encode_jpeg(drawn))
    if wanted.documents:
        result.files.append(result_file(folder, source, ".json"))
        write_atomic(result.files[-1], orjson.dumps(document, option=_READABLE))
    return result


def _annotate_video(
    source: Source,
    predictor: Predictor,
    folder: Path,
    wanted: Wanted,
    on_frame: Callable[[int | None], None],
) -> SourceResult:
    result = SourceResult(source)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(VideoReader(source.path))
        expected = reader.expected_frames(wanted.every, wanted.limit)
        rate = reader.frames_per_s
        if rate is None:
            result.warning = (
                f"states no frame rate; the result plays at {ASSUMED_FRAMES_PER_S:g} frames per second"
            )
        append: Callable[[Any], None] | None = None
        lines: IO[bytes] | None = None
        if wanted.pictures:
            result.files.append(result_file(folder, source, ".mp4"))
            shown_rate = (rate or ASSUMED_FRAMES_PER_S) / wanted.every  # so that playing takes as long
            append = stack.enter_context(write_video(result.files[-1], shown_rate))
        if wanted.documents:
            result.files.append(result_file(folder, source, ".jsonl"))
            lines = stack.enter_context(stack.enter_context(atomic_path(result.files[-1])).open("wb"))
        for frame, prediction in _predict_frames(stack, reader, predictor, wanted):
            if append is not None:
                append(prediction.draw(frame.rgb))
            if lines is not None:
                lines.write(_frame_line(frame, predictor.finds, prediction))
            result.images += 1
            result.found += prediction.found
            on_frame(expected)
    if reader.announced_frames is not None and expected is not None and result.images < expected:
        result.warning = f"only {result.images} of {expected} frames could be read; the file may be cut short"
    return result


def _predict_frames(
    stack: contextlib.ExitStack, reader: VideoReader, predictor: Predictor, wanted: Wanted
) -> Iterator[tuple[Frame, Prediction]]:
    workers = predictor.concurrency
    frames = stack.enter_context(
        contextlib.closing(read_ahead(reader.frames(wanted.every, wanted.limit), 2 * workers * wanted.batch))
    )

    def predict(batch: list[Frame]) -> list[Prediction | PictureRefused]:
        return predictor.predict([Picture(rgb=frame.rgb) for frame in batch])

    predicted = stack.enter_context(
        contextlib.closing(
            map_in_order(predict, batches(frames, wanted.batch), workers=workers, window=2 * workers)
        )
    )
    for batch, predictions in predicted:
        for frame, prediction in zip(batch, predictions, strict=True):
            yield frame, _accepted(prediction)


def _frame_line(frame: Frame, finds: str, prediction: Prediction) -> bytes:
    return orjson.dumps(
        {
            "frame": frame.index,
            "time_s": round(frame.time_s, 6),
            "version": prediction.version,
            finds: prediction.describe(),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def _accepted(prediction: Prediction | PictureRefused) -> Prediction:
    if isinstance(prediction, PictureRefused):
        raise prediction
    return prediction


def result_file(folder: Path, source: Source, suffix: str) -> Path:
    """Return where a source's result of this kind belongs."""
    # Not with_suffix: a stem such as "cam.2024-05-01" has dots of its own.
    return folder / source.stem.with_name(source.stem.name + suffix)


def reason_of(error: BaseException) -> str:
    """Return why a source gave no result, in words for the user."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
