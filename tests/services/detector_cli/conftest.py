"""A repository with the tiny model, a detector that serves it, and the commands as a person runs them."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from services.detector.cli.bench.server_process import start_detector
from services.detector.cli.predict import predict
from shared.repository.repository import ModelRepository
from tests.fixtures.tiny_detection_model import TinyModel, add_tiny_version, tiny_repository
from tests.services.detector_cli.videos import painted, write_picture

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """Version 1 is live; version 2 gives three quarters of every score, and `trial` names it."""
    repository = tiny_repository(tmp_path_factory.mktemp("repository"))
    add_tiny_version(repository, model=TinyModel(score_scale=0.75), promote=False)
    repository.set_alias("tiny", "trial", 2)
    return repository


@pytest.fixture(scope="session")
def server(repository: ModelRepository) -> Iterator[str]:
    with start_detector(repository.root, {}) as detector:
        yield f"http://127.0.0.1:{detector.port}"


@pytest.fixture(scope="session")
def bright_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEGs with a bright rectangle each, all at other places: every answer of the tiny model differs."""
    folder = tmp_path_factory.mktemp("bright")
    for number in range(20):
        image = painted((8 + number, 10 + number, 30 + 2 * number, 50 + number), number % 3)
        write_picture(folder / f"{number:02}.jpg", image)
    return folder


@pytest.fixture
def run_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `sightline predict` in an empty folder with these arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path / "var"))
    app = typer.Typer()
    app.command()(predict)

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return run
