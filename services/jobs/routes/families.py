"""The families that training jobs can be made of."""

from typing import Any

from fastapi import APIRouter

from services.jobs.schemas import FamilyList, FamilySummary
from shared.config.compose import recipe_names
from shared.config.errors import ConfigError
from shared.config.run_schema import run_schema
from shared.core.http import problem_responses
from shared.core.problems import NotFound
from shared.families.registry import UnknownFamily, config_class, family_names, family_task

router = APIRouter(prefix="/v1/families", tags=["families"])


class FamilyNotFound(NotFound):
    code, title = "unknown_family", "Unknown family"


@router.get("", summary="List the families and their recipes")
def list_families() -> FamilyList:
    return FamilyList(
        families=[
            FamilySummary(
                name=name,
                task=family_task(name),
                recipes=recipe_names(name),
                schema_url=f"/v1/families/{name}/schema",
                run_schema_url=f"/v1/families/{name}/run-schema",
            )
            for name in family_names()
        ]
    )


@router.get(
    "/{name}/schema",
    summary="JSON Schema of a family's model settings",
    responses=problem_responses(FamilyNotFound),
)
def schema(name: str) -> dict[str, Any]:
    """Return what can be set with `model.<field>=…`, with types, ranges and defaults.

    A field that names something registered lists every name (`enum`) with a line on each (`oneOf`).
    """
    try:
        return config_class(name).model_json_schema()
    except UnknownFamily as error:
        raise FamilyNotFound(str(error)) from error


@router.get(
    "/{name}/run-schema",
    summary="JSON Schema of everything that decides a run of a family",
    responses=problem_responses(FamilyNotFound),
)
def schema_of_a_run(name: str) -> dict[str, Any]:
    """Return every key that an override of a training job can set, the model's own under `model`."""
    try:
        return run_schema(name)
    except ConfigError as error:
        raise FamilyNotFound(str(error)) from error
