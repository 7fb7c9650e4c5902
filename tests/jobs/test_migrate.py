"""Bringing a database up to date, also from several starters at once and by a program that is too old."""

import subprocess
import sys

import pytest
from sqlalchemy import Engine, inspect, text

from shared.jobs.database import create_database_engine
from shared.jobs.migrate import VERSION_TABLE, migrate
from shared.jobs.tables import metadata

START = """
import sys
from shared.jobs.database import create_database_engine
from shared.jobs.migrate import migrate
engine = create_database_engine(sys.argv[1])
sys.stdin.read(1)
migrate(engine)
"""


def test_simultaneous_starters_do_not_get_in_each_others_way(database_url: str) -> None:
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", START, database_url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("g")
        starter.stdin.flush()
    for starter in starters:
        _, errors = starter.communicate(timeout=60)
        assert starter.returncode == 0, errors
    engine = create_database_engine(database_url)
    with engine.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {VERSION_TABLE}")).scalar_one() == 1
    engine.dispose()


def test_the_steps_lead_to_the_tables_that_the_code_describes(engine: Engine) -> None:
    inspector = inspect(engine)
    for table in metadata.sorted_tables:
        found = {
            column["name"]: (type(column["type"]).__name__.upper(), column["nullable"])
            for column in inspector.get_columns(table.name)
        }
        assert found.keys() == set(table.columns.keys())
        for column in table.columns:
            assert found[column.name][1] == column.nullable, column
        assert {index["name"] for index in inspector.get_indexes(table.name)} >= {
            index.name for index in table.indexes
        }


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    assert "jobs" in inspect(engine).get_table_names()


def test_a_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    with pytest.raises(RuntimeError, match="newer version"):
        migrate(engine)


@pytest.mark.parametrize("url", ["sqlite://", "mysql://root:secret@localhost/x"])
def test_a_database_that_cannot_hold_jobs_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"sqlite:///<file>") as caught:
        create_database_engine(url)
    assert "secret" not in str(caught.value)
