"""The job table: every change of a job's state is one guarded UPDATE, so two of them can never both happen.

A claim hands out a fencing token that grows with every claim. Whatever a worker does to its job names that
token, and a worker whose token is no longer the row's changes nothing and gets LeaseLost.
"""

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    and_,
    case,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from shared.jobs.database import read_only
from shared.jobs.problems import (
    DatabaseUnavailable,
    IdempotencyConflict,
    LeaseLost,
    UnknownJob,
    WrongJobState,
)
from shared.jobs.rows import cursor_of_seq, job_of_row, seq_of_cursor, time_of
from shared.jobs.schema import FINAL_STATES, Job, JobEvent, JobPage, JobState
from shared.jobs.tables import database_now, job_events, jobs
from shared.jobs.transitions import (
    Claim,
    add_state_event,
    after_lost_lease,
    claimable,
    held_by,
    move,
    queued_again,
)

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")


@dataclass(frozen=True)
class HeartbeatReply:
    cancel_requested: bool


@dataclass(frozen=True)
class PendingEvent:
    """An event on its way into the table; `progress` (0..1) also moves the job's own."""

    type: str
    data: dict[str, Any]
    created_at: float  # seconds since 1970
    progress: float | None = None


@dataclass(frozen=True)
class Reconciled:
    """An orphaned job that the reconciler took back."""

    job_id: str
    state: JobState
    worker_id: str | None


@dataclass(frozen=True)
class QueueFigures:
    """Jobs by state, and the age of the oldest one that waits (0 where none does)."""

    by_state: dict[JobState, int]
    oldest_queued_s: float


class JobStore:
    """Jobs in a database that `shared.jobs.migrate.migrate` has prepared.

    Every method may raise DatabaseUnavailable; nothing was changed then, or the change is complete.
    """

    def __init__(self, engine: Engine, *, max_attempts: int = 3, max_events: int = 20_000) -> None:
        self._engine = engine
        self._read_only = read_only(engine)
        self._max_attempts = max_attempts
        self._max_events = max_events

    # What callers of the service do.

    def submit(
        self,
        kind: str,
        params: dict[str, Any],
        idempotency_key: str | None = None,
        group: str | None = None,
    ) -> tuple[Job, bool]:
        """Return the queued job and True, or the one that `idempotency_key` already made and False.

        Raises IdempotencyConflict where the key belongs to a job of other kind, params or group.
        """
        if not _KIND.fullmatch(kind):
            raise ValueError(
                f"{kind!r} is no name for a kind of job; use lower-case letters, digits, - and _"
            )
        job_id = f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"
        values = {
            "id": job_id,
            "kind": kind,
            "params": params,
            "group_name": group,
            "idempotency_key": idempotency_key,
            "state": JobState.QUEUED,
            "attempt": 0,
            "max_attempts": self._max_attempts,
            "token": 0,
            "cancel_requested": False,
            "event_seq": 1,
            "created_at": database_now(),
            "available_at": database_now(),
            "notified_at": database_now(),  # the submitter sends the wake-up at once
        }
        try:
            with self._transaction() as connection:
                row = connection.execute(insert(jobs).values(**values).returning(jobs)).one()
                add_state_event(connection, row, "submitted")
        except IntegrityError:
            if idempotency_key is None:
                raise
            return self._same_request(idempotency_key, kind, params, group), False
        return job_of_row(row), True

    def _same_request(self, key: str, kind: str, params: dict[str, Any], group: str | None) -> Job:
        with self._reading() as connection:
            row = connection.execute(select(jobs).where(jobs.c.idempotency_key == key)).one()
        job = job_of_row(row)
        if (job.kind, _canonical(job.params), job.group) != (kind, _canonical(params), group):
            raise IdempotencyConflict(
                f"the idempotency key {key!r} made job {job.id} from another request; send the same request "
                "again, or a new key",
                job_id=job.id,
            )
        return job

    def get(self, job_id: str) -> Job:
        """Return the job. Raises UnknownJob."""
        with self._reading() as connection:
            row = connection.execute(select(jobs).where(_named(job_id))).one_or_none()
        if row is None:
            raise _unknown(job_id)
        return job_of_row(row)

    def list_jobs(
        self,
        state: JobState | None = None,
        kind: str | None = None,
        group: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Return a page of jobs, newest first. Raises InvalidCursor."""
        query = select(jobs).order_by(jobs.c.seq.desc()).limit(limit + 1)
        for column, wanted in ((jobs.c.state, state), (jobs.c.kind, kind), (jobs.c.group_name, group)):
            if wanted is not None:
                query = query.where(column == wanted)
        if cursor is not None:
            query = query.where(jobs.c.seq < seq_of_cursor(cursor))
        with self._reading() as connection:
            rows = connection.execute(query).all()
        more = len(rows) > limit
        page = rows[:limit]
        return JobPage(
            jobs=[job_of_row(row) for row in page], next_cursor=cursor_of_seq(page[-1].seq) if more else None
        )

    def events(self, job_id: str, after_seq: int = 0, limit: int = 500) -> list[JobEvent]:
        """Return the events of a job after number `after_seq`, oldest first."""
        query = (
            select(job_events)
            .where(job_events.c.job_id == job_id, job_events.c.seq > after_seq)
            .order_by(job_events.c.seq)
            .limit(limit)
        )
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            JobEvent(seq=row.seq, type=row.type, data=row.data, created_at=time_of(row.created_at))
            for row in rows
        ]

    def cancel(self, job_id: str) -> Job:
        """Cancel a queued job at once; ask the worker of a running one to stop. Asking twice is no error.

        Raises UnknownJob, and WrongJobState where the job has succeeded or failed.
        """
        queued = jobs.c.state == JobState.QUEUED
        running = and_(jobs.c.state == JobState.RUNNING, jobs.c.cancel_requested.is_(False))
        values = {
            "state": case((queued, JobState.CANCELLED.value), else_=jobs.c.state),
            "finished_at": case((queued, database_now()), else_=jobs.c.finished_at),
            "cancel_requested": True,
        }
        with self._transaction() as connection:
            row = move(connection, [_named(job_id), or_(queued, running)], values)
            if row is not None:
                add_state_event(connection, row, "cancel requested")
                return job_of_row(row)
        job = self.get(job_id)
        if job.state in {JobState.RUNNING, JobState.CANCELLED}:
            return job
        raise WrongJobState(f"job {job_id} is {job.state} and cannot be cancelled", state=job.state)

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again with all its attempts; it goes on from what it has saved.

        Raises UnknownJob, and WrongJobState in any other state.
        """
        values = {
            "state": JobState.QUEUED,
            "attempt": 0,
            "cancel_requested": False,
            "error": null(),
            "finished_at": None,
            "available_at": database_now(),
            "notified_at": database_now(),
        }
        with self._transaction() as connection:
            over = jobs.c.state.in_([JobState.FAILED, JobState.CANCELLED])
            row = move(connection, [_named(job_id), over], values)
            if row is not None:
                add_state_event(connection, row, "retry requested")
                return job_of_row(row)
        state = self.get(job_id).state
        raise WrongJobState(
            f"job {job_id} is {state}; only a failed or a cancelled job can be retried", state=state
        )

    # What workers do.

    def claim(self, job_id: str, worker_id: str, lease_s: float) -> Claim | None:
        """Take a queued job, or return None where there is nothing to take (any more, or yet)."""
        values = {
            "state": JobState.RUNNING,
            "attempt": jobs.c.attempt + 1,
            "token": jobs.c.token + 1,
            "worker": worker_id,
            "lease_expires_at": database_now() + lease_s,
            "started_at": func.coalesce(jobs.c.started_at, database_now()),
        }
        with self._transaction() as connection:
            row = move(connection, [jobs.c.id == job_id, claimable()], values)
            if row is None:
                return None
            add_state_event(connection, row, "claimed", worker=worker_id)
        return Claim(job_of_row(row), row.token, worker_id, lease_s)

    def heartbeat(self, claim: Claim) -> HeartbeatReply:
        """Renew the lease. Raises LeaseLost."""
        values = {"lease_expires_at": database_now() + claim.lease_s}
        query = update(jobs).where(*held_by(claim)).values(values).returning(jobs.c.cancel_requested)
        with self._transaction() as connection:
            cancel_requested = connection.execute(query).scalar_one_or_none()
        if cancel_requested is None:
            raise _lost(claim)
        return HeartbeatReply(cancel_requested)

    def poll(self, claim: Claim) -> HeartbeatReply:
        """Return what `heartbeat` would, without renewing and without waiting for writers."""
        query = select(jobs.c.cancel_requested).where(*held_by(claim))
        with self._reading() as connection:
            cancel_requested = connection.execute(query).scalar_one_or_none()
        if cancel_requested is None:
            raise _lost(claim)
        return HeartbeatReply(cancel_requested)

    def append_event(self, claim: Claim, type_: str, data: dict[str, Any]) -> None:
        """Add one event. Raises LeaseLost."""
        self.append_events(claim, [PendingEvent(type_, data, datetime.now(UTC).timestamp())])

    def append_events(self, claim: Claim, events: Sequence[PendingEvent]) -> None:
        """Add `events` in their order, all or none. Raises LeaseLost."""
        if not events:
            return
        # The row is updated first: its lock makes the numbers of events appear in order to every reader.
        values: dict[str, Any] = {"event_seq": jobs.c.event_seq + len(events)}
        if progress := [event.progress for event in events if event.progress is not None]:
            values["progress"] = progress[-1]
        query = update(jobs).where(*held_by(claim)).values(values).returning(jobs.c.event_seq)
        with self._transaction() as connection:
            last = connection.execute(query).scalar_one_or_none()
            if last is None:
                raise _lost(claim)
            first = last - len(events) + 1
            rows = [
                {
                    "job_id": claim.job.id,
                    "seq": seq,
                    "type": event.type,
                    "data": event.data,
                    "created_at": event.created_at,
                }
                for seq, event in enumerate(events, first)
            ]
            connection.execute(insert(job_events), rows)
            too_old = and_(job_events.c.job_id == claim.job.id, job_events.c.seq <= last - self._max_events)
            connection.execute(delete(job_events).where(too_old))

    def finish(
        self,
        claim: Claim,
        state: JobState,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> Job:
        """End the job for good. Raises LeaseLost, and ValueError where `state` is not a final one."""
        if state not in FINAL_STATES:
            raise ValueError(f"{state} is not a final state")
        values: dict[str, Any] = {"state": state, "finished_at": database_now(), "lease_expires_at": None}
        values |= {
            "result": null() if result is None else result,
            "error": null() if error is None else error,
        }
        if state is JobState.SUCCEEDED:
            values["progress"] = 1.0
        return self._give_up(claim, values, "finished")

    def fail_attempt(self, claim: Claim, error: dict[str, Any], delay_s: float) -> Job:
        """Record `error`; queue the job for another attempt after `delay_s`, or fail it at the cap.

        A job that was to be cancelled is cancelled. Raises LeaseLost.
        """
        if claim.job.attempt >= claim.job.max_attempts:
            return self.finish(claim, JobState.FAILED, error=error)
        values = queued_again(delay_s) | {"error": error}
        return self._give_up(claim, values, "attempt failed", error_type=error.get("type"))

    def release(self, claim: Claim) -> Job:
        """Give the job back as if this attempt had not been; one to be cancelled is. Raises LeaseLost."""
        values = queued_again(0.0) | {"attempt": jobs.c.attempt - 1}
        return self._give_up(claim, values, "released")

    def _give_up(self, claim: Claim, values: dict[str, Any], reason: str, **data: Any) -> Job:
        with self._transaction() as connection:
            row = move(connection, held_by(claim), values)
            if row is None:
                raise _lost(claim)
            add_state_event(connection, row, reason, **data)
        return job_of_row(row)

    # What the reconciler does.

    def reconcile(self, limit: int = 100) -> list[Reconciled]:
        """Take back running jobs whose lease has ended: queued again, or failed at the attempt cap."""
        expired = and_(jobs.c.state == JobState.RUNNING, jobs.c.lease_expires_at < database_now())
        with self._reading() as connection:
            orphans = connection.execute(select(jobs).where(expired).limit(limit)).all()
        taken = []
        for orphan in orphans:
            with self._transaction() as connection:
                guard = [jobs.c.id == orphan.id, jobs.c.token == orphan.token, expired]
                if (row := move(connection, guard, after_lost_lease(orphan))) is not None:
                    add_state_event(connection, row, "lease expired", worker=orphan.worker)
                    taken.append(Reconciled(row.id, JobState(row.state), orphan.worker))
        return taken

    def count_claimable(self) -> int:
        """Return how many jobs could be claimed now."""
        with self._reading() as connection:
            return connection.execute(select(func.count()).select_from(jobs).where(claimable())).scalar_one()

    def take_wake_ups(self, older_than_s: float | None, limit: int = 100) -> list[str]:
        """Return claimable jobs that want a wake-up and mark them as sent, each for one caller only.

        Those for which none was sent, and with `older_than_s` also those whose last is that old.
        """
        wanting: ColumnElement[bool] = jobs.c.notified_at.is_(None)
        if older_than_s is not None:
            wanting = or_(wanting, jobs.c.notified_at < database_now() - older_than_s)
        wanted = and_(claimable(), wanting)
        chosen = select(jobs.c.seq).where(wanted).order_by(jobs.c.seq).limit(limit)
        query = update(jobs).where(jobs.c.seq.in_(chosen), wanted).values(notified_at=database_now())
        with self._transaction() as connection:
            rows = connection.execute(query.returning(jobs.c.seq, jobs.c.id)).all()
        return [row.id for row in sorted(rows, key=lambda row: row.seq)]

    def want_wake_ups(self, job_ids: Sequence[str]) -> None:
        """Note that no wake-up went out for these jobs, so that the reconciler sends one."""
        with self._transaction() as connection:
            connection.execute(update(jobs).where(jobs.c.id.in_(job_ids)).values(notified_at=None))

    def figures(self) -> QueueFigures:
        """Return the numbers behind the gauges."""
        by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        queued = jobs.c.state == JobState.QUEUED
        oldest = select(database_now() - func.min(jobs.c.available_at)).where(queued)
        with self._reading() as connection:
            counts = {JobState(state): count for state, count in connection.execute(by_state)}
            age_s = connection.execute(oldest).scalar_one_or_none() or 0.0
        return QueueFigures({state: counts.get(state, 0) for state in JobState}, max(0.0, age_s))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with _translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _translated(), self._read_only.connect() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the ways in which a database is not there into DatabaseUnavailable."""
    try:
        yield
    except (DBAPIError, PoolTimeout, OSError) as error:
        gone = (OperationalError, InterfaceError, PoolTimeout, OSError)
        if not isinstance(error, gone) and not getattr(error, "connection_invalidated", False):
            raise
        cause = str(getattr(error, "orig", None) or error)
        raise DatabaseUnavailable(
            f"the job database does not answer ({cause}); try again", retry_after_s=2
        ) from error


def _named(job_id: str) -> ColumnElement[bool]:
    """Raises UnknownJob for a text with a NUL, which PostgreSQL takes for a mistake in the query."""
    if "\0" in job_id:
        raise _unknown(job_id)
    return jobs.c.id == job_id


def _unknown(job_id: str) -> UnknownJob:
    return UnknownJob(f"there is no job {job_id!r}; `sightline jobs list` shows those that exist")


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(f"job {claim.job.id}: claim {claim.token} of {claim.worker_id} is over")


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=str)
