"""Labels of one picture or several, and where in a picture a label is seen."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from services.detector.dataplane.problems import NoActivationMaps, UnknownLabel
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.tasks.classification import (
    ClassificationResult,
    ClassificationTask,
    Heatmap,
    LabelOverrides,
)
from services.detector.dataplane.tasks.task import expect
from services.detector.negotiation import PNG, preferred_type, require_type
from services.detector.reception import admitted
from services.detector.routes.answering import (
    batch_answer,
    headers,
    json_answer,
    one_picture,
    outcomes,
    several_pictures,
    value_of,
)
from services.detector.routes.pictures import read_picture, read_pictures
from services.detector.schemas import ClassifyAnswer, ClassifyBatchAnswer, ClassifyFields, LabelFields
from services.detector.state import detector_of

router = APIRouter(prefix="/v1/models/{model}", tags=["classify"])

_Fields = Annotated[ClassifyFields, Query()]
_CLASSIFY = one_picture(
    ClassifyAnswer,
    ClassifyFields,
    PNG,
    UnknownLabel,
    NoActivationMaps,
    text="Every label with its probability, or the picture under the heat map of one",
)


@router.post("/classify", summary="Classify with the live version", **_CLASSIFY)
async def classify(model: str, request: Request, fields: _Fields) -> Response:
    return await _classify(request, model, None, fields)


@router.post(
    "/versions/{version}/classify",
    summary="Classify with a loaded version; `version` is a number or an alias",
    **_CLASSIFY,
)
async def classify_with_version(model: str, version: str, request: Request, fields: _Fields) -> Response:
    return await _classify(request, model, version, fields)


@router.post(
    "/classify/batch",
    summary="Classify several pictures with one version",
    **several_pictures(ClassifyBatchAnswer, LabelFields),
)
async def classify_batch(model: str, request: Request, fields: Annotated[LabelFields, Query()]) -> Response:
    with admitted(request, model, None, _classifies):
        detector = detector_of(request)
        form = await read_pictures(request, fields, detector.settings.max_batch_images)
        overrides = LabelOverrides(form.fields.threshold)
        with detector.registry.lease(model) as loaded:
            task = _classifies(loaded)
            works = [task.work(picture, overrides) for picture in form.pictures]
            found = await outcomes(request, loaded, form.pictures, works)
            return batch_answer(request, loaded, found, lambda result: _describe(task, result))


async def _classify(request: Request, model: str, version: str | None, query: ClassifyFields) -> Response:
    accept = request.headers.get("accept")
    wants_picture = preferred_type(accept, PNG) == PNG
    with admitted(request, model, version, _classifies):
        form = await read_picture(request, query)
        if form.fields.heatmap is not None:
            require_type(accept, PNG)  # whoever names a label wants its heat map, and that is a picture
            wants_picture = True
        heatmap = Heatmap(form.fields.heatmap) if wants_picture else None
        with detector_of(request).registry.lease(model, version) as loaded:
            task = _classifies(loaded)  # again: the alias may have moved meanwhile
            overrides = LabelOverrides(form.fields.threshold)
            works = [task.work(picture, overrides, heatmap=heatmap) for picture in form.pictures]
            (outcome,) = await outcomes(request, loaded, form.pictures, works)
            result, timing = value_of(outcome)
            if result.heatmap_png is None or result.heat_label is None:
                return json_answer(loaded, _describe(task, result), timing)
            stated = {"X-Heatmap-Label": quote(task.labels[result.heat_label])}
            return Response(result.heatmap_png, media_type=PNG, headers=headers(loaded, timing) | stated)


def _classifies(loaded: LoadedVersion) -> ClassificationTask:
    return expect(loaded.task, ClassificationTask, loaded.name)


def _describe(task: ClassificationTask, result: ClassificationResult) -> dict[str, Any]:
    height, width = result.size
    return {"image": {"width": width, "height": height}, "labels": task.describe(result)}
