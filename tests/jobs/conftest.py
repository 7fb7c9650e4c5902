"""A prepared job table."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from shared.jobs.database import create_database_engine
from shared.jobs.migrate import migrate
from shared.jobs.store import JobStore


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = create_database_engine(database_url)
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> JobStore:
    return JobStore(engine, max_attempts=3, max_events=100)
