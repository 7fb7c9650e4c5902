"""Bodies of the HTTP interface. The request to export is `shared.jobs.params.ExportParams`."""

from datetime import datetime

from pydantic import BaseModel, Field


class RunSummary(BaseModel):
    """A run folder at a glance."""

    run_id: str
    family: str | None = Field(description="None where config.yaml cannot be read.")
    recipe: str | None
    exportable: bool = Field(description="Whether it has weights and a config that can be read.")
    metrics: dict[str, float] = Field(
        description="Of the final evaluation, 0..1: ap and ap50, or macro_f1 and map."
    )
    problem: str | None = Field(description="What is wrong with the folder.")
    changed_at: datetime


class RunList(BaseModel):
    """Runs, the latest first."""

    runs: list[RunSummary]
