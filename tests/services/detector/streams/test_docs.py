"""docs/streams.md says what is there, and what it says works."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.detector.dataplane.streams import problems
from services.detector.dataplane.streams.formats import READERS
from services.detector.main import create_app
from services.detector.schemas import ChunkDetections, StreamView
from services.detector.settings import DetectorSettings
from shared.core.problems import Problem
from shared.core.settings import CommonSettings
from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.serving import ROOT, Served, serving

DOCS = (ROOT / "docs" / "streams.md").read_text()
BASE = "http://127.0.0.1:8100"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tiny_stream_repository(tmp_path_factory.mktemp("docs"), "events").root) as served:
        yield served


def test_the_python_of_the_page_runs(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)[0]
    exec(compile(code.replace(BASE, served.url), "docs/streams.md", "exec"), {})
    printed = re.findall(
        r"^0\.[0-9]+ \[.*", capsys.readouterr().out, re.MULTILINE
    )  # between lines of the log
    ends = [line.split()[0] for line in printed]
    assert ends == [str(round(0.05 * window, 2)) for window in range(1, 20)]
    assert "'x1': 2.0" in printed[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_the_commands_of_the_page_work_one_after_the_other(served: Served, tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL)
    script = "\n".join(block for block in blocks if "curl " in block)
    runnable = "set -e\n" + script.replace("curl ", "curl --fail-with-body -S ").replace(BASE, served.url)
    ended = subprocess.run(
        ["bash", "-c", runnable], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"windows":[{"index":2,"start_us":100000,"end_us":150000' in ended.stdout
    assert served.client.get("/v1/streams").json() == {"streams": []}


def test_the_answers_of_the_page_are_what_openapi_says() -> None:
    stream, answer = re.findall(r"```json\n(.*?)```", DOCS, re.DOTALL)
    StreamView.model_validate_json(stream, extra="forbid")
    ChunkDetections.model_validate_json(answer, extra="forbid")


def test_every_error_and_kind_of_chunk_stands_in_a_table() -> None:
    found = [
        kind
        for kind in vars(problems).values()
        if isinstance(kind, type) and issubclass(kind, Problem) and kind.__module__ == problems.__name__
    ]
    assert len(found) > 5
    for kind in found:
        assert f"| {kind.status} | `{kind.code}` |" in DOCS
    for media_type in READERS:
        assert f"| `{media_type}` |" in DOCS


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/v1/models/{model}/streams", "201 400 401 403 404 408 409 413 422 429 500 503"),
        (
            "post",
            "/v1/streams/{stream}/chunks",
            "200 400 401 403 404 408 409 410 413 415 422 429 500 503 504",
        ),
        ("get", "/v1/streams/{stream}", "200 401 404 410 422 500"),
        ("delete", "/v1/streams/{stream}", "204 401 403 404 410 422 500"),
    ],
)
def test_openapi_states_every_status(method: str, path: str, statuses: str) -> None:
    operation = create_app(CommonSettings(), DetectorSettings()).openapi()["paths"][path][method]
    assert sorted(operation["responses"]) == statuses.split()
    for status, response in operation["responses"].items():
        if not status.startswith("2"):
            assert "application/problem+json" in response["content"], status
