import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from shared.cli.doctor import doctor
from shared.cli.stack import redis_server_binary

app = typer.Typer()
app.command()(doctor)


@pytest.fixture(autouse=True)
def own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path))


def findings() -> tuple[int, dict[str, dict[str, str]]]:
    result = CliRunner().invoke(app, ["--json"])
    report = json.loads(result.stdout)
    return result.exit_code, {finding["subject"]: finding for finding in report["findings"]}


def test_it_reports_every_subject() -> None:
    _, found = findings()
    assert set(found) == {
        "machine", "GPU", "training", "inference", "Redis", "database", "disk", "services",
    }  # fmt: skip


def test_a_broker_that_is_named_but_does_not_answer_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_REDIS_URL", "redis://127.0.0.1:1/0")
    exit_code, found = findings()
    assert found["Redis"]["state"] == "missing"
    assert "SIGHTLINE_REDIS_URL" in found["Redis"]["hint"]
    assert exit_code == 4


def test_a_password_in_the_database_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_DATABASE_URL", "postgresql://u:verysecret@127.0.0.1:1/s")
    _, found = findings()
    assert found["database"]["state"] == "missing"
    assert "verysecret" not in json.dumps(found)


def test_the_bundled_redis_is_found() -> None:
    binary = redis_server_binary()
    assert binary is not None
    assert binary.is_file()
