"""The server's own endpoints: what it is, whether it lives and whether it can answer."""

from importlib.metadata import version

from fastapi import APIRouter, Request

from services.detector.oip.problems import ERROR_FORM, PREFIX
from services.detector.oip.schemas import ServerHealth, ServerMetadata
from services.detector.state import detector_of, reasons_not_ready
from shared.core.http import problem_responses
from shared.core.problems import Unavailable

# Only what works: no shared memory, classification, tracing or logging.
EXTENSIONS = [
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "sequence",
    "statistics",
]

_VERSION = version("sightline")

router = APIRouter(prefix=PREFIX)


@router.get("", summary="The server and its extensions")
async def server_metadata() -> ServerMetadata:
    return ServerMetadata(name="sightline", version=_VERSION, extensions=EXTENSIONS)


@router.get("/health/live", summary="Is the server alive?", response_model_exclude_none=True)
async def live() -> ServerHealth:
    return ServerHealth(live=True)


@router.get(
    "/health/ready",
    summary="Can requests be answered now?",
    responses=problem_responses(Unavailable, form=ERROR_FORM),
    response_model_exclude_none=True,
)
async def ready(request: Request) -> ServerHealth:
    reasons = reasons_not_ready(detector_of(request))
    if request.app.state.draining:
        reasons = ["draining: the process was told to stop", *reasons]
    if reasons:
        raise Unavailable(f"not ready: {'; '.join(reasons)}")
    return ServerHealth(ready=True)
