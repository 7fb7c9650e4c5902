"""Detection in one picture or several."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.detector.dataplane import problems
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.dataplane.tasks.detection import DetectionResult, DetectionTask
from services.detector.dataplane.tasks.task import expect
from services.detector.negotiation import JPEG, preferred_type
from services.detector.reception import admitted
from services.detector.routes.answering import (
    Outcomes,
    batch_answer,
    detection_rows,
    headers,
    json_answer,
    one_picture,
    outcomes,
    several_pictures,
    value_of,
)
from services.detector.routes.pictures import PictureForm, read_picture, read_pictures
from services.detector.schemas import BatchAnswer, DetectAnswer, ThresholdFields
from services.detector.state import detector_of

router = APIRouter(prefix="/v1/models/{model}", tags=["detect"])

_Thresholds = Annotated[ThresholdFields, Query()]
_DETECT = one_picture(DetectAnswer, ThresholdFields, JPEG, problems.FixedSuppression, text="What was found")


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
    **several_pictures(BatchAnswer, ThresholdFields, problems.FixedSuppression),
)
async def detect_batch(model: str, request: Request, thresholds: _Thresholds) -> Response:
    with admitted(request, model, None, _detects):
        detector = detector_of(request)
        form = await read_pictures(request, thresholds, detector.settings.max_batch_images)
        with detector.registry.lease(model) as loaded:
            found = await _infer(request, loaded, form, annotate=False)
            labels = loaded.manifest.labels
            return batch_answer(request, loaded, found, lambda result: _describe(result, labels))


async def _detect(request: Request, model: str, version: str | None, thresholds: ThresholdFields) -> Response:
    media_type = preferred_type(request.headers.get("accept"))
    with admitted(request, model, version, _detects):
        form = await read_picture(request, thresholds)
        return await _detect_one(request, model, version, form, media_type)


async def _detect_one(
    request: Request, model: str, version: str | None, form: PictureForm[ThresholdFields], media_type: str
) -> Response:
    with detector_of(request).registry.lease(model, version) as loaded:
        (outcome,) = await _infer(request, loaded, form, annotate=media_type == JPEG)
        result, timing = value_of(outcome)
        if result.annotated_jpeg is not None:
            return Response(result.annotated_jpeg, media_type=JPEG, headers=headers(loaded, timing))
        return json_answer(loaded, _describe(result, loaded.manifest.labels), timing)


def _detects(loaded: LoadedVersion) -> None:
    expect(loaded.task, DetectionTask, loaded.name)


async def _infer(
    request: Request, loaded: LoadedVersion, form: PictureForm[ThresholdFields], *, annotate: bool
) -> Outcomes[DetectionResult]:
    task = expect(loaded.task, DetectionTask, loaded.name)  # again: the alias may have moved meanwhile
    overrides = Overrides(**form.fields.model_dump())
    works = [task.work(picture, overrides, annotate=annotate) for picture in form.pictures]
    return await outcomes(request, loaded, form.pictures, works)


def _describe(result: DetectionResult, labels: list[str]) -> dict[str, Any]:
    """Return the JSON of one picture."""
    height, width = result.size
    return {
        "image": {"width": width, "height": height},
        "detections": detection_rows(result.detections, labels),
    }
