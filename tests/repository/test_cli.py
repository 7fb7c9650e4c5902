"""`sightline models` says what it does, does nothing unasked and speaks JSON when told to."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from shared.repository import ModelRepository
from shared.repository.cli import app
from tests.fixtures.tiny_detection_model import add_tiny_version, tiny_repository


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return tiny_repository(tmp_path, versions=3)


def run(repository: ModelRepository, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--repository", str(repository.root)])


def run_json(repository: ModelRepository, *arguments: str) -> Any:
    result = run(repository, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_shows_every_version_with_its_aliases(repository: ModelRepository) -> None:
    rows = run_json(repository, "list")
    assert [(row["version"], row["aliases"]) for row in rows] == [(1, ""), (2, "previous"), (3, "live")]
    table = run(repository, "list")
    assert table.exit_code == 0
    assert "tiny" in table.stdout


def test_list_of_an_empty_repository_is_no_error(tmp_path: Path) -> None:
    empty = ModelRepository(tmp_path)
    assert run_json(empty, "list") == []
    assert "sightline export" in run(empty, "list").output


def test_show_prints_the_live_manifest_by_default(repository: ModelRepository) -> None:
    assert run_json(repository, "show", "tiny")["version"] == 3
    assert run_json(repository, "show", "tiny", "previous")["version"] == 2
    assert run(repository, "show", "tiny").exit_code == 0


def test_promote_and_rollback_move_the_aliases(repository: ModelRepository) -> None:
    assert run_json(repository, "promote", "tiny", "1")["aliases"] == {"live": 1, "previous": 3}
    assert run_json(repository, "rollback", "tiny")["aliases"] == {"live": 3, "previous": 1}


def test_alias_is_set_and_deleted(repository: ModelRepository) -> None:
    assert run_json(repository, "alias", "tiny", "canary", "1")["aliases"]["canary"] == 1
    assert "canary" not in run_json(repository, "alias", "tiny", "canary", "--delete")["aliases"]
    assert run(repository, "alias", "tiny", "canary").exit_code == 2


def test_remove_and_clean_do_nothing_without_yes(repository: ModelRepository) -> None:
    (repository.root / "tiny" / ".removed-x").mkdir()
    assert run_json(repository, "remove", "tiny", "1")["removed"] is False
    assert len(run_json(repository, "clean")["paths"]) == 1
    assert repository.versions("tiny") == [1, 2, 3]
    assert (repository.root / "tiny" / ".removed-x").exists()
    assert run_json(repository, "remove", "tiny", "1", "--yes")["removed"] is True
    assert len(run_json(repository, "clean", "--yes")["paths"]) == 1
    assert repository.versions("tiny") == [2, 3]
    assert not (repository.root / "tiny" / ".removed-x").exists()


def test_a_live_version_is_not_removed_even_with_yes(repository: ModelRepository) -> None:
    result = run(repository, "remove", "tiny", "live", "--yes")
    assert result.exit_code == 5
    assert "move the alias first" in result.output
    assert "would be refused" in run(repository, "remove", "tiny", "live").stdout


def test_verify_reports_every_corrupt_version_and_fails(repository: ModelRepository) -> None:
    assert all(result["ok"] for result in run_json(repository, "verify"))
    with (repository.path("tiny", 2) / "model.onnx").open("r+b") as file:
        file.write(b"XXXX")
    result = run(repository, "verify", "--json")
    assert result.exit_code == 1
    assert [row["ok"] for row in json.loads(result.stdout)] == [True, False, True]
    assert run(repository, "verify", "tiny", "3").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["show", "nobody"], 3, "there are: tiny"),
        (["show", "tiny", "9"], 3, "there are: 1, 2, 3"),
        (["promote", "tiny", "beta"], 3, "aliases are: live, previous"),
        (["show", "../tiny"], 2, "cannot name a model"),
        (["clean", "--yes", "--dry-run"], 2, "contradict"),
    ],
)
def test_errors_say_what_to_do_and_have_their_exit_code(
    repository: ModelRepository, arguments: list[str], code: int, words: str
) -> None:
    result = run(repository, *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert result.stdout == ""


def test_rollback_without_a_previous_version_is_refused(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    add_tiny_version(repository)
    assert run(repository, "rollback", "tiny").exit_code == 5
