"""What can go wrong with a stream, beside what can go wrong with any inference."""

from typing import Any

from shared.core.problems import (
    Conflict,
    NotFound,
    PayloadTooLarge,
    Problem,
    QueueFull,
    UnprocessableContent,
    UnsupportedMediaType,
)


class UnknownStream(NotFound):
    code, title = "unknown_stream", "No such stream"


class StreamGone(Problem):
    """The stream has ended, or this process never had it; open a new one and begin again."""

    status, code, title = 410, "stream_gone", "The stream has ended"

    def __init__(self, detail: str, *, reason: str) -> None:
        super().__init__(detail, reason=reason)


class TooManyStreams(QueueFull):
    code, title = "too_many_streams", "Too many open streams"


class SequenceConflict(Conflict):
    """A chunk came out of turn; `expected` is the number that comes next."""

    code, title = "sequence_conflict", "Not the chunk that comes next"

    def __init__(self, detail: str, *, expected: int) -> None:
        super().__init__(detail, expected=expected)


class WrongSensor(UnprocessableContent):
    code, title = "wrong_sensor", "The model is for another sensor"


class UnknownChunkType(UnsupportedMediaType):
    code, title = "unknown_chunk_type", "Not a kind of chunk this stream reads"


class WrongChunk(UnprocessableContent):
    """A chunk that cannot be taken; `index` is that of the first wrong event in it, where one is."""

    code, title = "wrong_chunk", "The chunk cannot be taken"

    def __init__(self, detail: str, *, index: int | None = None) -> None:
        extras: dict[str, Any] = {} if index is None else {"index": index}
        super().__init__(f"{detail}; nothing of this chunk was taken", **extras)


class TooManyWindows(PayloadTooLarge):
    code, title = "too_many_windows", "Too many windows in one chunk"


class TooManyEvents(PayloadTooLarge):
    code, title = "too_many_events", "Too many events in one window"
