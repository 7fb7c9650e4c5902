"""What a job and its events look like to everyone outside the store."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class JobState(StrEnum):
    """Where a job is in its life; the last three are final until someone asks for a retry."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


class Job(BaseModel):
    """One job as the store last saw it. Times are UTC, by the database's clock."""

    model_config = ConfigDict(frozen=True)

    id: str
    kind: str = Field(description="Names the runner, such as `train` or `export`.")
    params: dict[str, Any]
    state: JobState
    attempt: int = Field(description="Attempts that count so far, the running one included.")
    max_attempts: int
    progress: float | None = Field(description="0..1, None where the runner has not said.")
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(description="`type`, `message`, perhaps `traceback` and numbers.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    group: str | None
    cancel_requested: bool
    idempotency_key: str | None
    last_event_id: int = Field(description="Number of the newest event; events are numbered from 1.")


class JobEvent(BaseModel):
    """One thing that happened to a job; `seq` grows by one from event to event of the same job."""

    model_config = ConfigDict(frozen=True)

    seq: int
    type: str
    data: dict[str, Any]
    created_at: datetime


class JobPage(BaseModel):
    """Jobs from the newest to the oldest; `next_cursor` asks for the page after this one."""

    jobs: list[Job]
    next_cursor: str | None
