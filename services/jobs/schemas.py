"""Bodies of the HTTP interface."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
Group = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)]
IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=200)]


class JobSubmission(BaseModel):
    """A job to be done."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(max_length=40, examples=["train"])
    params: dict[str, Any] = Field(
        default_factory=dict,
        examples=[{"family": "person", "recipe": "demo", "overrides": ["data.path=cctv"]}],
        description="What the kind asks for.",
    )
    group: Group | None = Field(None, description="Jobs that belong together, such as those of a sweep.")


class FamilySummary(BaseModel):
    """A family of models, and what a training job of it can start from."""

    name: str
    task: str = Field(description="What its models do: detection, classification.")
    recipes: list[str]
    schema_url: str = Field(description="JSON Schema of its model settings, the `model.…` overrides.")
    run_schema_url: str = Field(description="JSON Schema of a whole run, every override.")


class FamilyList(BaseModel):
    families: list[FamilySummary]
