"""`sightline export` shows the gate's numbers, publishes, or refuses with exit code 5."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from services.export import pipeline
from services.export.cli import export
from services.export.runs import Run
from services.export.tasks import detection
from shared.repository import ModelRepository


@pytest.fixture(autouse=True)
def environment(
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    data_root: Path,
    tmp_path: Path,
    traced: tuple[Path, list[str]],
) -> None:
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("SIGHTLINE_RUNS_ROOT", str(run.path.parent))
    monkeypatch.setenv("SIGHTLINE_DATA_ROOT", str(data_root))
    monkeypatch.setenv("SIGHTLINE_EXPORT_URL", "http://127.0.0.1:1")

    def from_trace(graph: Any, path: Path) -> list[str]:
        path.write_bytes(traced[0].read_bytes())
        return traced[1]

    monkeypatch.setattr(pipeline, "export_onnx", from_trace)


def sightline_export(*arguments: str) -> Result:
    app = typer.Typer()
    app.command()(export)
    return CliRunner().invoke(app, list(arguments))


def test_json_is_the_only_thing_on_stdout(tmp_path: Path) -> None:
    result = sightline_export("toy-run", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert (document["name"], document["version"], document["promoted"]) == ("person", 1, True)
    assert ModelRepository(tmp_path / "repository").resolve("person") == 1


def test_the_table_shows_every_check_and_the_version_stays_unpromoted_when_asked(
    run: Run, tmp_path: Path
) -> None:
    result = sightline_export(str(run.path), "--name", "other", "--no-promote")
    assert result.exit_code == 0, result.stderr
    assert "raw outputs" in result.stdout
    assert "AP difference" in result.stdout
    assert "only 24 held-out pictures" in result.stderr
    assert ModelRepository(tmp_path / "repository").aliases("other") == {}


def test_a_refusal_has_its_exit_code_and_the_number(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = detection.append_suppression
    monkeypatch.setattr(
        detection,
        "append_suppression",
        lambda path, **given: real(path, **(given | {"score_threshold": 0.95})),
    )
    result = sightline_export("toy-run", "--end-to-end", "--json")
    assert result.exit_code == 5
    assert "the gate refused the export" in result.stderr
    assert json.loads(result.stdout)["refused"]
    assert ModelRepository(tmp_path / "repository").models() == []


def test_an_unknown_run_and_a_bad_name_say_what_to_do() -> None:
    unknown = sightline_export("nobody")
    assert unknown.exit_code == 3
    assert "the latest are: " in unknown.stderr
    assert "toy-run" in unknown.stderr
    bad = sightline_export("toy-run", "--name", "../up")
    assert bad.exit_code == 2
    assert "cannot name a model" in bad.stderr


def test_submitting_without_a_service_says_how_to_start_one() -> None:
    result = sightline_export("toy-run", "--submit")
    assert result.exit_code == 4
    assert "sightline up" in result.stderr
