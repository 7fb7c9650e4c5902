"""What a client says over the WebSocket of a stream: what the stream is, chunks, and words between them."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.datastructures import QueryParams
from starlette.types import Message

from services.detector.dataplane.streams.formats import DAT, EVENTS, HISTOGRAMS
from services.detector.dataplane.streams.standing import Chunk
from services.detector.schemas import Microseconds, StreamFields
from shared.core.http import wrong_fields
from shared.core.problems import BadRequest

MEDIA_TYPES = {"events": EVENTS, "dat": DAT, "histograms": HISTOGRAMS}


class SocketFields(StreamFields):
    """What a client may state when it opens a stream by a WebSocket."""

    format: Annotated[
        Literal["events", "dat", "histograms"], Field(description="What every binary message is.")
    ] = "events"


class _Word(BaseModel):
    """A text message after the first: one of the two."""

    model_config = ConfigDict(extra="forbid")

    until_us: Microseconds | None = None
    close: Literal[True] | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.until_us is None) == (self.close is None):
            raise ValueError('say {"until_us": …} or {"close": true}')
        return self


def fields_of_query(query: QueryParams) -> SocketFields:
    """Return what the query of a handshake states, `sensor` as sensor_height and sensor_width.

    Raises BadRequest for a name that stands twice and UnprocessableContent for a wrong field.
    """
    stated: dict[str, Any] = dict(query)
    if len(query.multi_items()) != len(stated):
        raise BadRequest("the query states a field twice")
    sensor = {
        side: stated.pop(f"sensor_{side}") for side in ("height", "width") if f"sensor_{side}" in stated
    }
    if sensor:
        stated["sensor"] = sensor
    try:
        return SocketFields.model_validate(stated)
    except ValidationError as error:
        raise wrong_fields(error.errors(include_context=False)) from error


def fields_of_message(message: Message) -> SocketFields:
    """Return what the first message states; raises BadRequest or UnprocessableContent."""
    text = message.get("text")
    if text is None:
        raise BadRequest(
            "the first message has to be text: a JSON object that says what the stream is, such as "
            '{"format": "dat"}, or {} for what is usual; the query of the URL can say it, too'
        )
    try:
        return SocketFields.model_validate_json(text)
    except ValidationError as error:
        raise wrong_fields(error.errors(include_context=False)) from error


def chunk_of(message: Message, media_type: str) -> Chunk | None:
    """Return the chunk in a later message, which may be only a word on the time; None where it says close.

    Raises UnprocessableContent.
    """
    body = message.get("bytes")
    if body is not None:
        return Chunk(media_type, body)
    try:
        word = _Word.model_validate_json(message["text"])
    except ValidationError as error:
        raise wrong_fields(error.errors(include_context=False)) from error
    return None if word.close else Chunk(media_type, b"", word.until_us)
