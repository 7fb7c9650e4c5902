"""Connections to the job database: SQLite on one machine, PostgreSQL for several."""

from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL

BUSY_TIMEOUT_S = 15.0  # how long SQLite waits for another writer
_POSTGRES_TIMEOUT_S = 15.0
_READ_ONLY = "sightline_read_only"


def _to_json(value: Any) -> str:
    # NaN and infinity become null: they are no JSON, and PostgreSQL refuses them.
    return orjson.dumps(
        value, default=str, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    ).decode()


def create_database_engine(url: str) -> Engine:
    """Return an engine for `sqlite:///…` or `postgresql+pg8000://…`; connects at first use.

    Raises ValueError for any other database.
    """
    address = make_url(url)
    options: dict[str, Any] = {"json_serializer": _to_json, "json_deserializer": orjson.loads}
    if address.get_backend_name() == "sqlite":
        return _sqlite_engine(address, options)
    if address.get_backend_name() == "postgresql":
        return create_engine(
            address,
            pool_pre_ping=True,
            pool_timeout=10,
            pool_size=5,
            max_overflow=15,
            connect_args={"timeout": _POSTGRES_TIMEOUT_S, "application_name": "sightline"},
            **options,
        )
    raise ValueError(
        f"{address.render_as_string(hide_password=True)!r} is no database for jobs; "
        "give sqlite:///<file> or postgresql://<user>:<password>@<host>/<database>"
    )


def _sqlite_engine(address: URL, options: dict[str, Any]) -> Engine:
    if not address.database or address.database == ":memory:":
        raise ValueError("a job database in memory is seen by one process only; give sqlite:///<file>")
    Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S}, pool_timeout=10, **options)

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is sent below, never by the driver in the middle of things
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")  # a job that was accepted survives a power cut
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the write lock at once: a transaction that starts by reading cannot wait for it
        # later, SQLite fails it with "database is locked" instead.
        read_only = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def read_only(engine: Engine) -> Engine:
    """Return `engine` (same connections) for transactions that only read and so wait for no writer."""
    return engine.execution_options(**{_READ_ONLY: True})
