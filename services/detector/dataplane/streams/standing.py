"""Where a stream stands: everything that a chunk changes, in one value."""

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from services.detector.dataplane.session import Tensors
from services.detector.dataplane.streams.formats import HISTOGRAMS, READERS, ChunkReader
from services.detector.dataplane.streams.problems import UnknownChunkType, WrongChunk
from services.detector.dataplane.streams.windows import EventWindows
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from shared.vision.events import Events


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a client sends at once.

    until_us: its word that every event up to and including this time has been sent.
    """

    media_type: str
    body: bytes
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class DueWindow:
    """A complete window: its number, its times in microseconds, and its events or its input [C, H, W]."""

    index: int
    start_us: int
    end_us: int
    content: Events | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """states: the graph's states [1, …] after the last complete window. media_type: None before a chunk."""

    windows: EventWindows
    states: Tensors
    media_type: str | None = None
    reader: ChunkReader | None = None

    def cut(self, chunk: Chunk, task: StreamDetectionTask) -> tuple["Standing", list[DueWindow]]:
        """Return where the stream stands once the windows that `chunk` completes are computed, and these.

        The states are still those of now. Raises UnknownChunkType, WrongChunk, TooManyWindows or
        TooManyEvents.
        """
        reader = self._reader(chunk.media_type, task)
        reader, content = reader.read(chunk.body)
        due: list[DueWindow]
        if isinstance(content, Events):
            windows, complete = self.windows.take(content, chunk.until_us)
            due = [DueWindow(one.index, one.start_us, one.end_us, one.events) for one in complete]
        elif chunk.until_us is not None:
            raise WrongChunk("until_us belongs to events; whole windows need no word that they are complete")
        else:
            windows, spans = self.windows.skip(len(content))
            due = [DueWindow(*span, frame) for span, frame in zip(spans, content, strict=True)]
        return replace(self, windows=windows, reader=reader, media_type=chunk.media_type), due

    def step(self, histogram: NDArray[Any], task: StreamDetectionTask) -> "Standing":
        """Return where the stream stands once one window, `histogram` [1, C, H, W], is computed.

        Raises UnknownChunkType or WrongChunk.
        """
        reader = self._reader(HISTOGRAMS, task)
        wanted = (1, *task.window_shape)
        if histogram.shape != wanted or histogram.dtype != task.window_dtype:
            raise WrongChunk(
                f"one window is {task.window_dtype} {list(wanted)}, not {histogram.dtype} "
                f"{list(histogram.shape)}"
            )
        windows, _ = self.windows.skip(1)
        return replace(self, windows=windows, reader=reader, media_type=HISTOGRAMS)

    def with_states(self, states: Tensors) -> "Standing":
        """Return this with other states."""
        return replace(self, states=states)

    def _reader(self, media_type: str, task: StreamDetectionTask) -> ChunkReader:
        make = READERS.get(media_type)
        if make is None:
            raise UnknownChunkType(
                f"Content-Type {media_type[:80]!r} is no kind of chunk; there are: {', '.join(READERS)}"
            )
        if self.media_type not in (None, media_type):
            raise UnknownChunkType(
                f"this stream began with {self.media_type} and cannot go on with {media_type}; "
                "open another stream for it"
            )
        return self.reader or make(task)
