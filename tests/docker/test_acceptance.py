"""The acceptance of a Compose project, as far as it can be tried without Docker."""

import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from shared.config import compose_run
from shared.families import config_class

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docker"))  # it is no part of the product, so it is not installed
from acceptance import command, journey, memory, waiting  # noqa: E402


@pytest.mark.parametrize("epochs", [1, 6])
def test_its_training_is_one_that_the_product_accepts(epochs: int) -> None:
    config = compose_run("person", journey.RECIPE, journey.overrides(epochs))
    assert config.trainer.max_epochs == epochs
    assert str(config.data.path) == journey.NAME
    assert config_class("person").model_validate(config.model).image_size == 208


def test_it_runs_with_nothing_but_the_standard_library(tmp_path: Path) -> None:
    # -S and -I: no installed package and no variable of this environment can be found.
    arguments = [sys.executable, "-I", "-S", str(ROOT / "docker" / "acceptance"), "--help"]
    result = subprocess.run(
        arguments, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=30, env={}
    )
    assert result.returncode == 0, result.stderr
    assert "python3 docker/acceptance" in result.stdout


def test_a_failed_step_ends_the_run_and_is_written_down(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> NoReturn:
        waiting.require(False, "no boxes")
        raise AssertionError("the requirement did not hold")

    def never() -> NoReturn:
        raise AssertionError("a step after one that failed")

    results = command.run([("first", lambda: {"boxes": 2}), ("second", fail), ("third", never)])
    assert [(result["step"], result["passed"]) for result in results] == [("first", True), ("second", False)]
    assert results[0]["boxes"] == 2
    assert results[1]["error"] == "StepFailed: no boxes"
    printed = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in printed] == ["ok  ", "FAIL"]


def test_waiting_asks_again_after_a_refused_connection() -> None:
    answers: list[Any] = [ConnectionRefusedError(), None, "here"]

    def ask() -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert waiting.wait_for("an answer", ask, 5, every_s=0) == "here"


def test_waiting_ends_with_what_it_waited_for() -> None:
    with pytest.raises(waiting.StepFailed, match="an answer: not within 0 s"):
        waiting.wait_for("an answer", lambda: None, 0, every_s=0)


@pytest.mark.parametrize(
    ("text", "expected"), [("1.5GiB", 1536.0), ("12.5MiB", 12.5), ("512KiB", 0.5), ("1048576B", 1.0)]
)
def test_memory_is_read_as_docker_writes_it(text: str, expected: float) -> None:
    assert memory.parse_mib(text) == expected
