"""Exports: submit, list, show. Each is a job of kind `export`, which a worker runs."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Response
from pydantic import StringConstraints

from services.export.problems import UnknownRun
from services.export.runs import find_run
from services.export.state import State
from shared.core.http import problem_responses
from shared.core.problems import Problem
from shared.jobs.params import ExportParams
from shared.jobs.problems import (
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidCursor,
    InvalidParams,
    UnknownJob,
)
from shared.jobs.schema import Job, JobPage, JobState

KIND = "export"

IdempotencyKey = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]+$", max_length=200)]

router = APIRouter(prefix="/v1/exports", tags=["exports"], responses=problem_responses(DatabaseUnavailable))

_OUTCOMES: dict[type[Problem], str] = {
    IdempotencyConflict: "conflict",
    InvalidParams: "invalid",
    UnknownRun: "invalid",
    DatabaseUnavailable: "unavailable",
}


@router.post(
    "",
    status_code=202,
    summary="Export a run",
    responses={
        200: {"model": Job, "description": "The Idempotency-Key was used for this request before."},
        **problem_responses(*_OUTCOMES),
    },
)
def submit(
    export: ExportParams,
    state: State,
    response: Response,
    idempotency_key: Annotated[IdempotencyKey | None, Header()] = None,
) -> Job:
    """Accept an export. It ends as `failed` with the number that failed where the gate refuses it."""
    try:
        find_run(state.runs_root, export.run_id)
        job, created = state.submitter.submit(KIND, export.model_dump(mode="json"), idempotency_key)
    except tuple(_OUTCOMES) as problem:
        state.metrics.submissions.labels(_OUTCOMES[type(problem)]).inc()
        raise
    state.metrics.submissions.labels("created" if created else "repeated").inc()
    response.status_code = 202 if created else 200
    response.headers["Location"] = f"/v1/exports/{job.id}"
    return job


@router.get("", summary="List exports, newest first", responses=problem_responses(InvalidCursor))
def list_exports(
    state: State,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> JobPage:
    return state.store.list_jobs(job_state, KIND, None, limit, cursor)


@router.get("/{job_id}", summary="Show an export", responses=problem_responses(UnknownJob))
def show(job_id: str, state: State) -> Job:
    job = state.store.get(job_id)
    if job.kind != KIND:
        raise UnknownJob(
            f"job {job_id!r} is of kind {job.kind!r}, not an export; ask the jobs service for it"
        )
    return job
