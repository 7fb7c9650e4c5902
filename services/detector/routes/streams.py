"""Streams over HTTP: opened on a model, fed with chunks of events, closed."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from services.detector.dataplane import problems
from services.detector.dataplane.streams import problems as stream_problems
from services.detector.dataplane.streams.answers import ChunkAnswer
from services.detector.dataplane.streams.formats import READERS
from services.detector.dataplane.streams.standing import Chunk
from services.detector.dataplane.streams.stream import Stream, StreamOptions
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.disconnect import unless_client_gone
from services.detector.json_body import body_of
from services.detector.negotiation import JSON
from services.detector.reception import admitted_to
from services.detector.routes.answering import detection_rows
from services.detector.routes.pictures import WrongForm, refuse_repeated
from services.detector.schemas import ChunkDetections, ChunkFields, StreamFields, StreamList, StreamView
from services.detector.state import detector_of
from services.detector.timing import server_timing, timing_ms
from shared.core.http import problem_responses
from shared.core.problems import BadRequest, PayloadTooLarge, QueueFull, Unauthorized, UnprocessableContent
from shared.core.shell import BodyTimeout
from shared.repository.problems import UnknownModel, UnknownVersion

_BOX_DECIMALS = 5  # fine enough to tell a mixed-up state from the noise of float32

router = APIRouter(prefix="/v1", tags=["streams"])


_OPEN: dict[str, Any] = {
    "status_code": 201,
    "response_model": StreamView,
    "responses": problem_responses(
        BadRequest,
        Unauthorized,
        UnknownModel,
        UnknownVersion,
        BodyTimeout,
        problems.VersionNotLoaded,
        problems.WrongTask,
        PayloadTooLarge,
        UnprocessableContent,
        stream_problems.WrongSensor,
        problems.FixedSuppression,
        QueueFull,
        stream_problems.TooManyStreams,
        problems.ModelNotReady,
        problems.Draining,
    ),
    "openapi_extra": body_of(StreamFields, required=False),
}
_SEND: dict[str, Any] = {
    "response_model": ChunkDetections,
    "responses": problem_responses(
        BadRequest,
        Unauthorized,
        stream_problems.UnknownStream,
        BodyTimeout,
        stream_problems.SequenceConflict,
        stream_problems.StreamGone,
        PayloadTooLarge,
        stream_problems.TooManyWindows,
        stream_problems.TooManyEvents,
        stream_problems.UnknownChunkType,
        WrongForm,
        stream_problems.WrongChunk,
        QueueFull,
        problems.InferenceFailed,
        problems.Draining,
        problems.QueueDeadlineExceeded,
        problems.ComputeDeadlineExceeded,
    ),
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in READERS},
        }
    },
}
_ONE = problem_responses(Unauthorized, stream_problems.UnknownStream, stream_problems.StreamGone)


@router.post("/models/{model}/streams", summary="Open a stream on the live version", **_OPEN)
async def open_stream(model: str, request: Request) -> Response:
    return await _open(request, model, None)


@router.post(
    "/models/{model}/versions/{version}/streams",
    summary="Open a stream on a loaded version; `version` is a number or an alias",
    **_OPEN,
)
async def open_stream_with_version(model: str, version: str, request: Request) -> Response:
    return await _open(request, model, version)


@router.post("/streams/{stream}/chunks", summary="Send a chunk; get what its windows hold", **_SEND)
async def send_chunk(stream: str, request: Request, fields: Annotated[ChunkFields, Query()]) -> Response:
    refuse_repeated(request)
    found = detector_of(request).streams.get(stream)
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    with admitted_to(request, found.loaded):
        chunk = Chunk(media_type, await request.body(), fields.until_us)
        answer = await unless_client_gone(request, found.send(fields.sequence, chunk))
        headers = {
            "Server-Timing": server_timing(answer.timing),
            "X-Model-Version": str(found.loaded.version),
        }
        return Response(orjson.dumps(describe_answer(found, answer)), media_type=JSON, headers=headers)


@router.get(
    "/streams",
    summary="All open streams",
    response_model=StreamList,
    responses=problem_responses(Unauthorized),
)
async def list_streams(request: Request) -> Response:
    table = detector_of(request).streams
    return _json({"streams": [describe_stream(one, table.limits.idle_s) for one in table.streams()]})


@router.get("/streams/{stream}", summary="One open stream", response_model=StreamView, responses=_ONE)
async def get_stream(stream: str, request: Request) -> Response:
    table = detector_of(request).streams
    return _json(describe_stream(table.get(stream), table.limits.idle_s))


@router.delete(
    "/streams/{stream}", summary="Close a stream", status_code=204, response_class=Response, responses=_ONE
)
async def close_stream(stream: str, request: Request) -> None:
    detector_of(request).streams.end(stream, "client")


async def _open(request: Request, model: str, version: str | None) -> Response:
    detector = detector_of(request)
    with detector.body_budget.hold(request):
        body = await request.body()
        try:
            fields = StreamFields.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise RequestValidationError(
                [{**item, "loc": ("body", *item["loc"])} for item in error.errors(include_context=False)]
            ) from error
    stream = detector.streams.open(model, version, stream_options(fields))
    return _json(
        describe_stream(stream, detector.streams.limits.idle_s),
        201,
        {"Location": f"/v1/streams/{stream.id}", "X-Model-Version": str(stream.loaded.version)},
    )


def stream_options(fields: StreamFields) -> StreamOptions:
    """Return what a client asks for in the data plane's words."""
    return StreamOptions(
        start_us=fields.start_us,
        sensor=None if fields.sensor is None else (fields.sensor.height, fields.sensor.width),
        overrides=Overrides(fields.score_threshold, fields.iou_threshold, fields.max_detections),
    )


def describe_stream(stream: Stream, idle_limit_s: float) -> dict[str, Any]:
    """Return a stream as StreamView has it."""
    task = stream.task
    (height, width), (channels, input_height, input_width) = task.sensor_size, task.window_shape
    return {
        "id": stream.id,
        "model": stream.loaded.name,
        "version": stream.loaded.version,
        "opened_at": stream.opened_at,
        "sensor": {"height": height, "width": width},
        "window_us": task.window_us,
        "input": {
            "representation": task.representation,
            "dtype": task.window_dtype.name,
            "channels": channels,
            "height": input_height,
            "width": input_width,
        },
        "start_us": stream.start_us,
        "next_sequence": stream.next_sequence,
        "windows": stream.windows,
        "pending_events": stream.pending_events,
        "idle_s": round(stream.idle_s, 3),
        "idle_limit_s": idle_limit_s,
    }


def describe_answer(stream: Stream, answer: ChunkAnswer) -> dict[str, Any]:
    """Return the answer to a chunk as ChunkDetections has it."""
    labels = stream.task.labels
    return {
        "stream": stream.id,
        "model": stream.loaded.name,
        "version": stream.loaded.version,
        "sequence": answer.sequence,
        "windows": [
            {
                "index": window.index,
                "start_us": window.start_us,
                "end_us": window.end_us,
                "detections": detection_rows(window.detections, labels, box_decimals=_BOX_DECIMALS),
            }
            for window in answer.windows
        ],
        "timing_ms": timing_ms(answer.timing),
    }


def _json(document: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(document), status, headers, media_type=JSON)
