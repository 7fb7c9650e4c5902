"""docs/detector.md says what is there, and what it says works."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import services.detector.dataplane.problems as dataplane_problems
import services.detector.routes.pictures as pictures_module
from services.detector.main import create_app
from services.detector.metrics import DetectorMetrics
from services.detector.settings import DetectorSettings
from shared.cli.manual import setting_rows
from shared.core.problems import Problem
from shared.core.settings import CommonSettings
from tests.fixtures.tiny_classification_model import TinyClassifier, add_tiny_classifier
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import ROOT, Served, serving

DOCS = (ROOT / "docs" / "detector.md").read_text()
CURLS = re.findall(r"```sh\n(curl .*?)\n```", DOCS)
STREAMS = (ROOT / "docs" / "streams.md").read_text()
BASE = "http://127.0.0.1:8100"


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_repository(tmp_path_factory.mktemp("docs"), name="person")
    add_tiny_classifier(repository, "defects", TinyClassifier(labels=("1", "2", "3")))
    with serving(repository.root) as served:
        yield served


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
@pytest.mark.parametrize("command", CURLS)
def test_every_curl_of_the_page_succeeds(person: Served, tmp_path: Path, command: str) -> None:
    (tmp_path / "street.jpg").write_bytes(encode(two_rectangles(), "JPEG"))
    (tmp_path / "door.png").write_bytes(encode(two_rectangles()))
    assert BASE in command
    runnable = command.replace("curl ", "curl --fail-with-body -sS ").replace(BASE, person.url)
    result = subprocess.run(runnable, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_endpoint_has_an_example() -> None:
    paths = create_app(CommonSettings(), DetectorSettings()).openapi()["paths"]
    shown = " ".join(CURLS).replace("/live/", "/{version}/")
    for model in ("/person", "/defects"):
        shown = shown.replace(model, "/{model}")
    for path in paths:
        if "stream" in path:
            assert path in STREAMS, path
        elif not path.startswith("/v2"):  # docs/oip.md
            assert f"{BASE}{path}" in shown, path


def test_every_setting_stands_in_the_table_as_it_is() -> None:
    for name, default, text in setting_rows(DetectorSettings):
        assert f"| `{name}` | {default} | {text} |" in DOCS


def test_every_metric_stands_in_the_table_with_its_type() -> None:
    registry = CollectorRegistry()
    DetectorMetrics(registry)
    for family in registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert f"| `{name}` | {family.type} |" in DOCS


def test_every_error_stands_in_the_table_with_its_status() -> None:
    found = {
        (kind.status, kind.code)
        for module in (dataplane_problems, pictures_module)
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, Problem) and kind.__module__ == module.__name__
    }
    assert len(found) > 10
    for status, code in found:
        assert re.search(rf"^\| {status} \| .*`{code}`", DOCS, re.MULTILINE), code


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/v1/models/{model}/detect", "200 400 401 403 404 406 408 409 413 415 422 429 500 503 504"),
        ("/v1/models/{model}/detect/batch", "200 400 401 403 404 408 409 413 415 422 429 500 503"),
        ("/v1/models/{model}/classify", "200 400 401 403 404 406 408 409 413 415 422 429 500 503 504"),
        ("/v1/models/{model}/classify/batch", "200 400 401 403 404 408 409 413 415 422 429 500 503"),
    ],
)
def test_openapi_states_every_status_as_a_problem_document(path: str, statuses: str) -> None:
    operation = create_app(CommonSettings(), DetectorSettings()).openapi()["paths"][path]["post"]
    assert sorted(operation["responses"]) == statuses.split()
    for status, response in operation["responses"].items():
        if status != "200":
            assert "application/problem+json" in response["content"], status
