"""The guarded UPDATE behind every change of a job's state, and the values that such a change sets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, insert, literal, null, update

from shared.jobs.schema import Job, JobState
from shared.jobs.tables import database_now, job_events, jobs


@dataclass(frozen=True)
class Claim:
    """The right to work on a job until the lease ends."""

    job: Job
    token: int
    worker_id: str
    lease_s: float


def move(
    connection: Connection, guard: Sequence[ColumnElement[bool]], values: dict[str, Any]
) -> Row[Any] | None:
    """Change the row that passes `guard` and number the event that tells of it; None where none does."""
    query = update(jobs).where(*guard).values(**values, event_seq=jobs.c.event_seq + 1).returning(jobs)
    return connection.execute(query).one_or_none()


def add_state_event(connection: Connection, row: Row[Any], reason: str, **data: Any) -> None:
    values = {
        "job_id": row.id,
        "seq": row.event_seq,
        "type": "state",
        "data": {"state": row.state, "attempt": row.attempt, "reason": reason, **data},
        "created_at": database_now(),
    }
    connection.execute(insert(job_events).values(**values))


def held_by(claim: Claim) -> list[ColumnElement[bool]]:
    return [jobs.c.id == claim.job.id, jobs.c.state == JobState.RUNNING, jobs.c.token == claim.token]


def claimable() -> ColumnElement[bool]:
    return and_(jobs.c.state == JobState.QUEUED, jobs.c.available_at <= database_now())


def queued_again(delay_s: float) -> dict[str, Any]:
    """Return the values that put a running job back into the queue, or end it if it was to be cancelled."""
    cancelled = jobs.c.cancel_requested.is_(True)
    return {
        "state": case((cancelled, JobState.CANCELLED.value), else_=literal(JobState.QUEUED.value)),
        "finished_at": case((cancelled, database_now()), else_=null()),
        "available_at": database_now() + delay_s,
        "notified_at": None,
        "lease_expires_at": None,
    }


def after_lost_lease(orphan: Row[Any]) -> dict[str, Any]:
    error = {
        "type": "LeaseExpired",
        "message": f"worker {orphan.worker} was not heard of any more in attempt {orphan.attempt} of "
        f"{orphan.max_attempts}; it was killed, ran out of memory or lost the database",
    }
    if orphan.attempt < orphan.max_attempts or orphan.cancel_requested:
        return queued_again(0.0) | {"error": error}
    return {
        "state": JobState.FAILED,
        "finished_at": database_now(),
        "lease_expires_at": None,
        "error": error,
    }
