"""Jobs: submit, list, show, watch, cancel, retry."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.jobs.schemas import Group, IdempotencyKey, JobSubmission, Kind
from services.jobs.state import State
from services.jobs.watching import TooManyWatchers
from shared.core.http import problem_responses
from shared.core.problems import Problem
from shared.jobs.problems import (
    DatabaseUnavailable,
    IdempotencyConflict,
    InvalidCursor,
    InvalidParams,
    UnknownJob,
    WrongJobState,
)
from shared.jobs.schema import Job, JobPage, JobState

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=problem_responses(DatabaseUnavailable))

_OUTCOMES: dict[type[Problem], str] = {
    IdempotencyConflict: "conflict",
    InvalidParams: "invalid",
    DatabaseUnavailable: "unavailable",
}


@router.post(
    "",
    status_code=202,
    summary="Submit a job",
    responses={
        200: {"model": Job, "description": "The Idempotency-Key was used for this request before."},
        **problem_responses(IdempotencyConflict, InvalidParams),
    },
)
def submit(
    submission: JobSubmission,
    state: State,
    response: Response,
    idempotency_key: Annotated[IdempotencyKey | None, Header()] = None,
) -> Job:
    """Accept a job. With an Idempotency-Key a repeated request finds the job that the first one made."""
    try:
        job, created = state.submitter.submit(
            submission.kind, submission.params, idempotency_key, submission.group
        )
    except (IdempotencyConflict, InvalidParams, DatabaseUnavailable) as problem:
        state.metrics.submissions.labels(_OUTCOMES[type(problem)]).inc()
        raise
    state.metrics.submissions.labels("created" if created else "repeated").inc()
    response.status_code = 202 if created else 200
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return job


@router.get("", summary="List jobs, newest first", responses=problem_responses(InvalidCursor))
def list_jobs(
    state: State,
    job_state: Annotated[JobState | None, Query(alias="state")] = None,
    kind: Kind | None = None,
    group: Group | None = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(max_length=40)] = None,
) -> JobPage:
    return state.store.list_jobs(job_state, kind, group, limit, cursor)


@router.get("/{job_id}", summary="Show a job", responses=problem_responses(UnknownJob))
def show(job_id: str, state: State) -> Job:
    return state.store.get(job_id)


async def _place(state: State) -> AsyncIterator[None]:
    """Hold a place among the watchers until the last byte of the stream was sent."""
    with state.watchers.admitted():
        yield


@router.get(
    "/{job_id}/events",
    summary="Watch a job",
    dependencies=[Depends(_place)],
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Server-sent events; the last is `end`."},
        **problem_responses(UnknownJob, TooManyWatchers),
    },
)
async def watch(
    job_id: str,
    state: State,
    request: Request,
    last_event_id: Annotated[int, Header(ge=0, le=2**62)] = 0,
) -> StreamingResponse:
    """Stream the job's events, those after Last-Event-ID first, until it is over."""

    async def gone() -> bool:
        return request.app.state.draining or await request.is_disconnected()

    await state.watchers.check(job_id)
    return StreamingResponse(
        state.watchers.stream(job_id, last_event_id, gone),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
    )


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    responses=problem_responses(UnknownJob, WrongJobState),
)
def cancel(job_id: str, state: State) -> Job:
    """Cancel a queued job at once; a running one stops within about a second and keeps what it has."""
    return state.store.cancel(job_id)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Queue a failed or cancelled job again",
    responses=problem_responses(UnknownJob, WrongJobState),
)
def retry(job_id: str, state: State) -> Job:
    return state.submitter.retry(job_id)
