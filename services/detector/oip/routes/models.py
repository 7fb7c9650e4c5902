"""What a model says of itself: metadata, readiness, configuration and statistics."""

from typing import Any

from fastapi import APIRouter, Request

from services.detector.dataplane import problems
from services.detector.dataplane.registry import LoadedVersion
from services.detector.oip.datatypes import name_of
from services.detector.oip.graph_inputs import inputs_of_a_sequence, outputs_of_a_sequence
from services.detector.oip.problems import ERROR_FORM, PREFIX
from services.detector.oip.schemas import ModelHealth, ModelMetadata, Statistics, TensorMetadata
from services.detector.oip.statistics import model_statistics
from services.detector.state import detector_of
from shared.core.http import problem_responses
from shared.repository.manifest import TensorSpec
from shared.repository.problems import CorruptVersion, UnknownModel, UnknownVersion
from shared.repository.repository import CONFIG_FILE
from shared.repository.triton_config_reader import ConfigSyntaxError, read_model_config

PLATFORM = "onnxruntime_onnx"

router = APIRouter(prefix=PREFIX)

_OF_MODEL = problem_responses(UnknownModel, problems.ModelNotReady, problems.Draining, form=ERROR_FORM)
_OF_VERSION = problem_responses(
    UnknownModel,
    UnknownVersion,
    problems.VersionNotLoaded,
    problems.ModelNotReady,
    problems.Draining,
    form=ERROR_FORM,
)
_ANY_VERSION = "; `version` is a number or an alias"


# Before the models, since `stats` would be taken for the name of one.
@router.get("/models/stats", summary="Statistics of every loaded version")
async def all_statistics(request: Request) -> Statistics:
    registry = detector_of(request).registry
    loaded = [one for model in registry.models().values() for one in _versions(model.loaded)]
    return Statistics(model_stats=[model_statistics(one) for one in loaded])


@router.get("/models/{model}", summary="A model's tensors and versions", responses=_OF_MODEL)
async def metadata(model: str, request: Request) -> ModelMetadata:
    return _metadata(request, model, None)


@router.get(
    "/models/{model}/versions/{version}",
    summary=f"A version's tensors{_ANY_VERSION}",
    responses=_OF_VERSION,
)
async def metadata_of_version(model: str, version: str, request: Request) -> ModelMetadata:
    return _metadata(request, model, version)


@router.get("/models/{model}/ready", summary="Can the model answer now?", responses=_OF_MODEL)
async def ready(model: str, request: Request) -> ModelHealth:
    return _ready(request, model, None)


@router.get(
    "/models/{model}/versions/{version}/ready",
    summary=f"Can a version answer now?{_ANY_VERSION}",
    responses=_OF_VERSION,
)
async def version_ready(model: str, version: str, request: Request) -> ModelHealth:
    return _ready(request, model, version)


# Not async, these two: they read the disk.
@router.get(
    "/models/{model}/config",
    summary="The model's config.pbtxt as JSON",
    responses={**_OF_MODEL, **problem_responses(CorruptVersion, form=ERROR_FORM)},
)
def config(model: str, request: Request) -> dict[str, Any]:
    return _config(request, model, None)


@router.get(
    "/models/{model}/versions/{version}/config",
    summary=f"The config.pbtxt, which is one for all versions, as JSON{_ANY_VERSION}",
    responses={**_OF_VERSION, **problem_responses(CorruptVersion, form=ERROR_FORM)},
)
def config_of_version(model: str, version: str, request: Request) -> dict[str, Any]:
    return _config(request, model, version)


@router.get("/models/{model}/stats", summary="Statistics of a model's loaded versions", responses=_OF_MODEL)
async def statistics(model: str, request: Request) -> Statistics:
    known = detector_of(request).registry.model(model)
    return Statistics(model_stats=[model_statistics(one) for one in _versions(known.loaded)])


@router.get(
    "/models/{model}/versions/{version}/stats",
    summary=f"Statistics of a loaded version{_ANY_VERSION}",
    responses=_OF_VERSION,
)
async def statistics_of_version(model: str, version: str, request: Request) -> Statistics:
    with detector_of(request).registry.lease(model, version) as loaded:
        return Statistics(model_stats=[model_statistics(loaded)])


def _versions(loaded: dict[int, LoadedVersion]) -> list[LoadedVersion]:
    return [loaded[number] for number in sorted(loaded)]


def _metadata(request: Request, model: str, version: str | None) -> ModelMetadata:
    registry = detector_of(request).registry
    with registry.lease(model, version) as loaded:
        return ModelMetadata(
            name=loaded.name,
            versions=[str(number) for number in sorted(registry.model(model).loaded)],
            platform=PLATFORM,
            # Without states, as Triton has it: the server carries them through a sequence.
            inputs=[_tensor(spec) for spec in inputs_of_a_sequence(loaded.manifest)],
            outputs=[_tensor(spec) for spec in outputs_of_a_sequence(loaded.manifest)],
        )


def _tensor(spec: TensorSpec) -> TensorMetadata:
    return TensorMetadata(name=spec.name, datatype=name_of(spec.dtype), shape=spec.shape)


def _ready(request: Request, model: str, version: str | None) -> ModelHealth:
    with detector_of(request).registry.lease(model, version) as loaded:
        return ModelHealth(name=loaded.name, ready=True)


def _config(request: Request, model: str, version: str | None) -> dict[str, Any]:
    detector = detector_of(request)
    with detector.registry.lease(model, version) as loaded:
        path = detector.repository.root / loaded.name / CONFIG_FILE
    try:
        return read_model_config(path)
    except (ConfigSyntaxError, FileNotFoundError) as error:
        raise CorruptVersion(f"the configuration cannot be read: {error}; promote a version anew") from error
