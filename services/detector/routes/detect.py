"""Detection in one picture or several."""

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from services.detector.dataplane import problems
from services.detector.dataplane.batching import Timing
from services.detector.dataplane.inference import infer
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.tasks.detection import DetectionResult, DetectionTask
from services.detector.dataplane.tasks.task import expect
from services.detector.negotiation import JPEG, JSON, NotAcceptable, preferred_type
from services.detector.reception import admitted
from services.detector.routes.disconnect import unless_client_gone
from services.detector.routes.pictures import (
    NoForm,
    PictureForm,
    TooManyPictures,
    WrongForm,
    read_picture,
    read_pictures,
)
from services.detector.schemas import BatchAnswer, DetectAnswer, ThresholdFields
from services.detector.state import detector_of
from shared.core.http import problem_document, problem_responses
from shared.core.problems import BadRequest, PayloadTooLarge, Problem, QueueFull, Unauthorized
from shared.core.shell import BodyTimeout
from shared.repository.problems import UnknownModel, UnknownVersion

router = APIRouter(prefix="/v1/models/{model}", tags=["detect"])

_Thresholds = Annotated[ThresholdFields, Query()]
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
    problems.FixedSuppression,
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
)
_FORM_THRESHOLDS = {
    name: {**schema, "description": "As the query parameter of the same name."}
    for name, schema in ThresholdFields.model_json_schema()["properties"].items()
}
_FILE = {"type": "string", "format": "binary"}
_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "application/octet-stream")


def _form(field: str, schema: dict[str, Any]) -> dict[str, Any]:
    properties = {field: schema, **_FORM_THRESHOLDS}
    return {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [field],
                "properties": properties,
                "additionalProperties": False,
            }
        }
    }


_DETECT: dict[str, Any] = {
    "responses": {
        200: {"model": DetectAnswer, "content": {JPEG: {"schema": _FILE}}, "description": "What was found"},
        **problem_responses(*_SHARED, *_ONE_PICTURE, NotAcceptable),
    },
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {**{kind: {"schema": _FILE} for kind in _IMAGE_TYPES}, **_form("image", _FILE)},
        }
    },
}


@router.post("/detect", summary="Detect with the live version", **_DETECT)
async def detect(model: str, request: Request, thresholds: _Thresholds) -> Response:
    return await _detect(request, model, None, thresholds)


@router.post(
    "/versions/{version}/detect",
    summary="Detect with a loaded version; `version` is a number or an alias",
    **_DETECT,
)
async def detect_with_version(
    model: str, version: str, request: Request, thresholds: _Thresholds
) -> Response:
    return await _detect(request, model, version, thresholds)


@router.post(
    "/detect/batch",
    summary="Detect in several pictures with one version",
    responses={
        200: {"model": BatchAnswer, "description": "One result for each picture"},
        **problem_responses(*_SHARED, NoForm, TooManyPictures),
    },
    openapi_extra={
        "requestBody": {"required": True, "content": _form("images", {"type": "array", "items": _FILE})}
    },
)
async def detect_batch(model: str, request: Request, thresholds: _Thresholds) -> Response:
    with admitted(request, model, None, _detects):
        return await _detect_batch(request, model, thresholds)


async def _detect_batch(request: Request, model: str, thresholds: ThresholdFields) -> Response:
    detector = detector_of(request)
    form = await read_pictures(request, thresholds, detector.settings.max_batch_images)
    with detector.registry.lease(model) as loaded:
        outcomes = await _infer(request, loaded, form, annotate=False)
        results = [
            {"problem": problem_document(request.url.path, request.state.request_id, outcome)}
            if isinstance(outcome, Problem)
            else _picture_answer(loaded, *outcome)
            for outcome in outcomes
        ]
        answer = {"model": loaded.name, "version": loaded.version, "results": results}
    return Response(orjson.dumps(answer), media_type=JSON)


async def _detect(request: Request, model: str, version: str | None, thresholds: ThresholdFields) -> Response:
    media_type = preferred_type(request.headers.get("accept"))
    with admitted(request, model, version, _detects):
        form = await read_picture(request, thresholds)
        return await _detect_one(request, model, version, form, media_type)


async def _detect_one(
    request: Request, model: str, version: str | None, form: PictureForm, media_type: str
) -> Response:
    with detector_of(request).registry.lease(model, version) as loaded:
        (outcome,) = await _infer(request, loaded, form, annotate=media_type == JPEG)
        if isinstance(outcome, Problem):
            raise outcome
        result, timing = outcome
        headers = {
            "Server-Timing": ", ".join(f"{name};dur={ms}" for name, ms in _timing_ms(timing).items()),
            "Vary": "Accept",
            "X-Model-Version": str(loaded.version),
        }
        if result.annotated_jpeg is not None:
            return Response(result.annotated_jpeg, media_type=JPEG, headers=headers)
        answer = {"model": loaded.name, "version": loaded.version, **_picture_answer(loaded, result, timing)}
    return Response(orjson.dumps(answer), media_type=JSON, headers=headers)


def _detects(loaded: LoadedVersion) -> None:
    expect(loaded.task, DetectionTask, loaded.name)


async def _infer(
    request: Request, loaded: LoadedVersion, form: PictureForm, *, annotate: bool
) -> list[tuple[DetectionResult, Timing] | Problem]:
    settings = detector_of(request).settings
    task = expect(loaded.task, DetectionTask, loaded.name)  # again: the alias may have moved meanwhile
    works = [task.work(picture, form.overrides, annotate=annotate) for picture in form.pictures]
    for picture in form.pictures:
        loaded.metrics.image_bytes.observe(len(picture))
    inference = infer(loaded, works, wait_s=settings.deadline_s, compute_timeout_s=settings.compute_timeout_s)
    return await unless_client_gone(request, inference)


def _picture_answer(loaded: LoadedVersion, result: DetectionResult, timing: Timing) -> dict[str, Any]:
    """Return the JSON of one picture: boxes to a thousandth of a pixel, scores to a millionth."""
    found, labels = result.detections, loaded.manifest.labels
    height, width = result.size
    boxes, scores = found.boxes.astype("float64").round(3), found.scores.astype("float64").round(6)
    return {
        "image": {"width": width, "height": height},
        "detections": [
            {
                "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2},
                "score": score,
                "label": labels[label],
                "label_id": label,
            }
            for (x1, y1, x2, y2), score, label in zip(
                boxes.tolist(), scores.tolist(), found.labels.tolist(), strict=True
            )
        ],
        "timing_ms": _timing_ms(timing),
    }


def _timing_ms(timing: Timing) -> dict[str, float]:
    return {
        "queue": round(timing.queue_s * 1000, 3),
        "preprocess": round(timing.preprocess_s * 1000, 3),
        "compute": round(timing.compute_s * 1000, 3),
        "postprocess": round(timing.postprocess_s * 1000, 3),
    }
