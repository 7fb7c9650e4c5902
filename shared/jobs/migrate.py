"""Brings the job database up to date; safe when several services start at the same moment."""

import time

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

VERSION_TABLE = "sightline_jobs_version"  # not Alembic's usual name: other programs may share the database
_ADVISORY_LOCK = 0x5167_4A0B  # any number that everyone who migrates agrees on


def migrate(engine: Engine, *, timeout_s: float = 60.0) -> None:
    """Create or upgrade the tables in one transaction, behind a lock that one starter holds at a time.

    SQLite's write lock does that by itself (`database` opens every transaction with BEGIN IMMEDIATE).
    Raises TimeoutError where another starter keeps the lock, RuntimeError where the database was made by
    a newer version of Sightline, SQLAlchemy's own errors where it cannot be reached.
    """
    config = Config()
    config.set_main_option("script_location", "shared.jobs:migrations")
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            _wait_for_lock(connection, timeout_s)
        config.attributes |= {"connection": connection, "version_table": VERSION_TABLE}
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise RuntimeError(
                f"the job database has a schema that this version of Sightline does not know ({error}); "
                "use the newer version that made it, or another database"
            ) from error


def _wait_for_lock(connection: Connection, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    take = text("SELECT pg_try_advisory_xact_lock(:number)")
    while not connection.execute(take, {"number": _ADVISORY_LOCK}).scalar_one():
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"another process has been upgrading the job database for {timeout_s:g} s; end it, or wait"
            )
        time.sleep(0.1)
