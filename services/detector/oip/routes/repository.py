"""The model repository extension: what there is, and explicit loading and unloading."""

from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from services.detector.dataplane.problems import LoadFailed
from services.detector.json_body import body_of
from services.detector.oip.json_data import read_document
from services.detector.oip.problems import ERROR_FORM, PREFIX, WrongRequest
from services.detector.oip.schemas import IndexEntry, IndexRequest, RepositoryRequest
from services.detector.state import detector_of
from shared.core.http import problem_responses
from shared.repository.problems import UnknownModel

router = APIRouter(prefix=f"{PREFIX}/repository")


_CONTROL: dict[str, Any] = {
    "responses": {
        200: {"description": "Done", "content": {"application/json": {"schema": {"type": "object"}}}},
        **problem_responses(WrongRequest, UnknownModel, LoadFailed, form=ERROR_FORM),
    },
    "response_class": Response,
    "openapi_extra": body_of(RepositoryRequest, required=False),
}


@router.post(
    "/index",
    summary="Every version in the repository and its state",
    responses=problem_responses(WrongRequest, form=ERROR_FORM),
    openapi_extra=body_of(IndexRequest, required=False),
)
async def index(request: Request) -> list[IndexEntry]:
    ready = (await _document(request)).get("ready", False)
    if not isinstance(ready, bool):
        raise WrongRequest(f"'ready' has to be true or false, not {ready!r}")
    states = await run_in_threadpool(detector_of(request).control.index)
    return [
        IndexEntry(name=one.name, version=str(one.version), state=one.state, reason=one.reason)
        for one in states
        if one.state == "READY" or not ready
    ]


@router.post("/models/{model}/load", summary="Load and serve what the aliases of a model mean", **_CONTROL)
async def load(model: str, request: Request) -> Response:
    for name in await _parameters(request):
        if name == "config" or name.startswith("file:"):
            raise WrongRequest(
                f"the parameter {name[:40]!r} cannot replace what is in the repository: a version never "
                "changes there; publish a new one and load that"
            )
    await run_in_threadpool(detector_of(request).control.load, model)
    return Response(b"{}", media_type="application/json")


@router.post(
    "/models/{model}/unload", summary="Serve a model no longer, until it is loaded again", **_CONTROL
)
async def unload(model: str, request: Request) -> Response:
    await _parameters(request)  # of which unload_dependents changes nothing: no model here depends on another
    await run_in_threadpool(detector_of(request).control.unload, model)
    return Response(b"{}", media_type="application/json")


async def _parameters(request: Request) -> dict[str, Any]:
    parameters = (await _document(request)).get("parameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise WrongRequest(f"'parameters' have to be an object, not {type(parameters).__name__}")
    return parameters or {}


async def _document(request: Request) -> dict[str, Any]:
    """Return the JSON object in a body, which may be empty."""
    body = await request.body()
    document = read_document(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise WrongRequest(f"the request has to be a JSON object, not {type(document).__name__}")
    return document
