"""Which models there are, and what they say of themselves."""

from typing import Any

from fastapi import APIRouter, Request

from services.detector.dataplane.problems import ModelNotReady
from services.detector.dataplane.registry import ServedModel
from services.detector.schemas import Labels, ModelList, ModelView, VersionList, VersionView
from services.detector.state import detector_of
from shared.core.http import problem_responses
from shared.core.problems import Unauthorized
from shared.repository import Manifest
from shared.repository.problems import CorruptVersion, UnknownModel, UnknownVersion

router = APIRouter(prefix="/v1/models", tags=["models"])

_UNKNOWN_MODEL = problem_responses(Unauthorized, UnknownModel)
_UNKNOWN_VERSION = problem_responses(Unauthorized, UnknownModel, UnknownVersion, CorruptVersion)


@router.get("", summary="All models", responses=problem_responses(Unauthorized))
async def list_models(request: Request) -> ModelList:
    detector = detector_of(request)
    default = detector.settings.aliases[0]
    return ModelList(
        models=[_view(name, model, default) for name, model in detector.registry.models().items()]
    )


@router.get("/{model}", summary="One model", responses=_UNKNOWN_MODEL)
async def get_model(model: str, request: Request) -> ModelView:
    detector = detector_of(request)
    return _view(model, detector.registry.model(model), detector.settings.aliases[0])


@router.get("/{model}/versions", summary="The versions of a model", responses=_UNKNOWN_MODEL)
async def list_versions(model: str, request: Request) -> VersionList:
    known = detector_of(request).registry.model(model)
    return VersionList(
        model=model,
        versions=[
            VersionView(
                version=version,
                aliases=sorted(alias for alias, number in known.aliases.items() if number == version),
                loaded=version in known.loaded,
            )
            for version in known.versions
        ],
    )


# Not async: it reads the disk.
@router.get(
    "/{model}/versions/{version}/manifest",
    summary="What a version says of itself; `version` is a number or an alias",
    responses=_UNKNOWN_VERSION,
)
def get_manifest(model: str, version: str, request: Request) -> Manifest:
    detector = detector_of(request)
    detector.registry.model(model)  # for its better message where the name is unknown
    return detector.repository.manifest(model, detector.repository.resolve(model, version))


@router.get(
    "/{model}/labels",
    summary="Names of what the serving version tells apart",
    responses=problem_responses(Unauthorized, UnknownModel, ModelNotReady),
)
async def get_labels(model: str, request: Request) -> Labels:
    with detector_of(request).registry.lease(model) as loaded:
        return Labels(model=model, version=loaded.version, labels=loaded.manifest.labels)


def _view(name: str, model: ServedModel, default_alias: str) -> ModelView:
    version = model.serving.get(default_alias)
    loaded = None if version is None else model.loaded[version]
    details: dict[str, Any] = {"task": None, "precision": None, "provider": None}
    if loaded is not None:
        details = {
            "task": loaded.manifest.task,
            "precision": loaded.manifest.precision,
            "provider": loaded.session.provider,
        }
    return ModelView(
        name=name,
        state="ready" if loaded else "loading" if model.loading is not None else "unavailable",
        version=version,
        loaded=sorted(model.loaded),
        aliases=model.aliases,
        problems=list(model.failures.values()),
        **details,
    )
