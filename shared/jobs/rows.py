"""From rows of the table to what the outside sees."""

import base64
import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from shared.jobs.problems import InvalidCursor
from shared.jobs.schema import Job, JobState

_SEQ = re.compile(rb"[0-9]{1,18}")  # longer ones do not fit the column, and drivers fail on them


def cursor_of_seq(seq: int) -> str:
    return base64.urlsafe_b64encode(str(seq).encode()).decode().rstrip("=")


def seq_of_cursor(cursor: str) -> int:
    try:
        decoded = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        decoded = b""
    if not _SEQ.fullmatch(decoded):
        raise InvalidCursor(f"{cursor!r} is no cursor; take next_cursor from the page before")
    return int(decoded)


def time_of(seconds: float | None) -> Any:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def job_of_row(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        params=row.params,
        state=JobState(row.state),
        attempt=row.attempt,
        max_attempts=row.max_attempts,
        progress=row.progress,
        result=row.result,
        error=row.error,
        created_at=time_of(row.created_at),
        started_at=time_of(row.started_at),
        finished_at=time_of(row.finished_at),
        group=row.group_name,
        cancel_requested=row.cancel_requested,
        idempotency_key=row.idempotency_key,
        last_event_id=row.event_seq,
    )
