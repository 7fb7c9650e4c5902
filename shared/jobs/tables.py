"""The two tables behind the queue. Times are seconds since 1970 by the database's own clock."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

metadata = MetaData()
MAX_EVENT_TYPE_CHARACTERS = 40

_Serial = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts up only in an INTEGER PRIMARY KEY

jobs = Table(
    "jobs",
    metadata,
    Column("seq", _Serial, primary_key=True, autoincrement=True),
    Column("id", String(80), nullable=False, unique=True),
    Column("kind", String(40), nullable=False),
    Column("params", JSON, nullable=False),
    Column("group_name", String(80)),
    Column("idempotency_key", String(200), unique=True),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("token", BigInteger, nullable=False),  # fencing token: grows with every claim, never goes back
    Column("worker", Text),
    Column("lease_expires_at", Double),
    Column("cancel_requested", Boolean, nullable=False),
    Column("progress", Double),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("event_seq", BigInteger, nullable=False),  # number of the newest event
    Column("created_at", Double, nullable=False),
    Column("available_at", Double, nullable=False),  # not to be claimed before
    Column("notified_at", Double),  # when the last wake-up was sent; NULL asks the reconciler for one
    Column("started_at", Double),
    Column("finished_at", Double),
    Index("ix_jobs_state_available", "state", "available_at"),
    Index("ix_jobs_group", "group_name"),
)

job_events = Table(
    "job_events",
    metadata,
    Column("job_id", String(80), ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("type", String(MAX_EVENT_TYPE_CHARACTERS), nullable=False),
    Column("data", JSON, nullable=False),
    Column("created_at", Double, nullable=False),
)


class database_now(FunctionElement[float]):  # noqa: N801 - reads like the SQL functions it stands beside
    """Seconds since 1970 by the database's clock, so that clocks of hosts never decide about a lease."""

    type = Double()
    inherit_cache = True


@compiles(database_now, "sqlite")
def _sqlite_now(element: Any, compiler: Any, **_: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"  # the Julian date of 1970-01-01T00:00Z


@compiles(database_now, "postgresql")
def _postgresql_now(element: Any, compiler: Any, **_: Any) -> str:
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS DOUBLE PRECISION)"
