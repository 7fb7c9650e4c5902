"""What every endpoint for pictures states in OpenAPI and how it answers, whatever its task."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from pydantic import BaseModel

from services.detector.dataplane import problems
from services.detector.dataplane.inference import infer
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.work import Timing, Work
from services.detector.disconnect import unless_client_gone
from services.detector.negotiation import JSON, NotAcceptable
from services.detector.routes.pictures import NoForm, TooManyPictures, WrongForm
from services.detector.state import detector_of
from services.detector.timing import server_timing, timing_ms
from shared.core.http import problem_document, problem_responses
from shared.core.problems import BadRequest, PayloadTooLarge, Problem, QueueFull, Unauthorized
from shared.core.shell import BodyTimeout
from shared.repository.problems import UnknownModel, UnknownVersion
from shared.vision.boxes import Detections

R = TypeVar("R")
# One for each picture, in their order: value and timing, or what was wrong with it.
Outcomes = Sequence[tuple[R, Timing] | Problem]

_SHARED = (
    BadRequest,
    problems.EmptyPicture,
    Unauthorized,
    UnknownModel,
    UnknownVersion,
    BodyTimeout,
    problems.VersionNotLoaded,
    problems.WrongTask,
    PayloadTooLarge,
    WrongForm,
    QueueFull,
    problems.InferenceFailed,
    problems.ModelNotReady,
    problems.Draining,
)
_ONE_PICTURE = (
    problems.NotAPicture,
    problems.TruncatedPicture,
    problems.PictureTooLarge,
    problems.QueueDeadlineExceeded,
    problems.ComputeDeadlineExceeded,
    NotAcceptable,
)
_FILE = {"type": "string", "format": "binary"}
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "application/octet-stream")


def one_picture(
    answer: type[BaseModel], fields: type[BaseModel], picture_type: str, *own: type[Problem], text: str
) -> dict[str, Any]:
    """Return what an endpoint for one picture says of itself; `own` are the problems of its task alone."""
    body = {**{kind: {"schema": _FILE} for kind in _IMAGE_TYPES}, **_form("image", _FILE, fields)}
    return {
        "responses": {
            200: {"model": answer, "content": {picture_type: {"schema": _FILE}}, "description": text},
            **problem_responses(*_SHARED, *own, *_ONE_PICTURE),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": body}},
    }


def several_pictures(answer: type[BaseModel], fields: type[BaseModel], *own: type[Problem]) -> dict[str, Any]:
    """Return what an endpoint for several pictures says of itself."""
    body = _form("images", {"type": "array", "minItems": 1, "items": _FILE}, fields)
    return {
        "responses": {
            200: {"model": answer, "description": "One result for each picture"},
            **problem_responses(*_SHARED, *own, NoForm, TooManyPictures),
        },
        "openapi_extra": {"requestBody": {"required": True, "content": body}},
    }


def _form(field: str, schema: dict[str, Any], fields: type[BaseModel]) -> dict[str, Any]:
    stated = {
        name: {**_not_null(described), "description": "As the query parameter of the same name."}
        for name, described in fields.model_json_schema()["properties"].items()
    }
    return {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [field],
                "properties": {field: schema, **stated},
                "additionalProperties": False,
            }
        }
    }


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a field is where it is stated: a form has no null."""
    (stated,) = (kind for kind in schema.get("anyOf", [schema]) if kind != {"type": "null"})
    return dict(stated)


async def outcomes(
    request: Request, loaded: LoadedVersion, pictures: Sequence[bytes], works: Sequence[Work[R]]
) -> Outcomes[R]:
    """Run the work on each of `pictures` on a version, unless the client goes."""
    settings = detector_of(request).settings
    for picture in pictures:
        loaded.metrics.image_bytes.observe(len(picture))
    inference = infer(loaded, works, wait_s=settings.deadline_s, compute_timeout_s=settings.compute_timeout_s)
    return await unless_client_gone(request, inference)


def value_of(outcome: tuple[R, Timing] | Problem) -> tuple[R, Timing]:
    """Return value and timing, or raise the problem."""
    if isinstance(outcome, Problem):
        raise outcome
    return outcome


def detection_rows(found: Detections, labels: list[str], *, box_decimals: int = 3) -> list[dict[str, Any]]:
    """Return the JSON of detections: boxes to a thousandth of a pixel, scores to a millionth."""
    boxes, scores = found.boxes.astype("float64").round(box_decimals), found.scores.astype("float64").round(6)
    return [
        {
            "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
            "score": score,
            "label": labels[label],
            "label_id": label,
        }
        for (x1, y1, x2, y2), score, label in zip(
            boxes.tolist(), scores.tolist(), found.labels.tolist(), strict=True
        )
    ]


def headers(loaded: LoadedVersion, timing: Timing) -> dict[str, str]:
    """Return the headers of an answer about one picture."""
    return {
        "Server-Timing": server_timing(timing),
        "Vary": "Accept",
        "X-Model-Version": str(loaded.version),
    }


def json_answer(loaded: LoadedVersion, described: Mapping[str, Any], timing: Timing) -> Response:
    """Return the JSON about one picture; `described` is the task's part of it."""
    answer = {"model": loaded.name, "version": loaded.version, **described, "timing_ms": timing_ms(timing)}
    return Response(orjson.dumps(answer), media_type=JSON, headers=headers(loaded, timing))


def batch_answer(
    request: Request, loaded: LoadedVersion, found: Outcomes[R], describe: Callable[[R], dict[str, Any]]
) -> Response:
    """Return the JSON about several pictures; one that failed has its problem in its place."""
    results = [
        {"problem": problem_document(request.scope["path"], request.state.request_id, outcome)}
        if isinstance(outcome, Problem)
        else {**describe(outcome[0]), "timing_ms": timing_ms(outcome[1])}
        for outcome in found
    ]
    answer = {"model": loaded.name, "version": loaded.version, "results": results}
    return Response(orjson.dumps(answer), media_type=JSON)
