"""What a job of each kind asks for, checked where it is submitted; free of torch.

A kind that has no model here cannot be submitted; its runner is found by the entry point of the same name
(group `sightline.jobs`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.config.errors import ConfigError, unknown
from shared.config.schema import RunConfig
from shared.core.files import PathEscapesRoot, resolve_under
from shared.core.settings import CommonSettings
from shared.jobs.problems import InvalidParams
from shared.repository.names import MODEL_NAME

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class JobParams(BaseModel):
    """What the parameters of all kinds share: unknown fields are refused, `check` has the last word."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def check(self, settings: CommonSettings) -> None:
        """Raise InvalidParams where a value is well formed and still cannot be meant on this installation."""


class TrainParams(JobParams):
    """A training run: a family's recipe and the values that differ from it."""

    family: str = Field(max_length=80, examples=["person"])
    recipe: str = Field("recommended", max_length=80)
    overrides: list[Annotated[str, Field(max_length=1000)]] = Field(
        default_factory=list, max_length=200, examples=[["data.path=cctv", "trainer.max_epochs=20"]]
    )

    def check(self, settings: CommonSettings) -> None:
        """Compose the run as the worker will. The files that it reads must lie under `settings.data_root`."""
        from shared.config.compose import compose_run

        try:
            config = compose_run(self.family, self.recipe, list(self.overrides))
        except ConfigError as error:
            raise InvalidParams(str(error), errors=error.problems) from error
        assert settings.data_root is not None
        for key, path in files_read(config).items():
            try:
                resolve_under(settings.data_root, path)
            except PathEscapesRoot as error:
                raise InvalidParams(
                    f"{key}: {path!r} leads out of the data root; give one relative to it", field=key
                ) from error


def files_read(config: RunConfig) -> dict[str, str]:
    """Return what a training reads besides its config, by the key that names it."""
    files = {
        "data.path": config.data.path,
        "data.split_file": config.data.split_file,
        "model.weights": config.model.get("weights"),
    }
    return {key: path for key, path in files.items() if path is not None}


class ExportParams(JobParams):
    """A run to be turned into a version of the model repository.

    Whether the run exists is seen by the worker, which is where the runs are.
    """

    run_id: str = Field(pattern=_NAME, max_length=120, description="Name of a folder under the runs root.")
    name: str = Field(pattern=MODEL_NAME.pattern, max_length=64, description="Model in the repository.")
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    end_to_end: bool = Field(False, description="Put non-maximum suppression inside the graph.")
    promote: bool = Field(True, description="Let the new version go live.")


JOB_PARAMS: Mapping[str, type[JobParams]] = MappingProxyType({"train": TrainParams, "export": ExportParams})


def checked_params(
    kind: str,
    params: dict[str, Any],
    settings: CommonSettings,
    models: Mapping[str, type[JobParams]] = JOB_PARAMS,
) -> dict[str, Any]:
    """Return `params` with defaults filled in, as they are stored.

    Raises InvalidParams, which names every mistake.
    """
    model = models.get(kind)
    if model is None:
        raise InvalidParams(unknown("kind of job", kind, models), field="kind")
    try:
        checked = model.model_validate(params)
    except ValidationError as error:
        mistakes = [_mistake(kind, list(model.model_fields), dict(item)) for item in error.errors()]
        raise InvalidParams("; ".join(mistakes), errors=mistakes) from error
    checked.check(settings)
    return checked.model_dump(mode="json")


def _mistake(kind: str, fields: list[str], item: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return unknown(f"parameter of {kind!r}", path, fields)
    given = repr(item["input"])
    return f"params.{path}: {item['msg']} (got {given if len(given) <= 200 else given[:200] + ' …'})"
