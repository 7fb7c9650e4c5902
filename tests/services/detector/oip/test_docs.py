"""docs/oip.md names every endpoint, and what it shows works."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.detector.main import create_app
from services.detector.oip.problems import PREFIX
from services.detector.settings import DetectorSettings
from shared.core.settings import CommonSettings
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import ROOT, Served, serving

DOCS = (ROOT / "docs" / "oip.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS, flags=re.DOTALL)
CURLS = re.findall(r"```sh\n(curl .*?)\n```", DOCS)
BASE = "http://127.0.0.1:8100"


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_repository(tmp_path_factory.mktemp("docs"), name="person")
    with serving(repository.root) as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page speaks of, as the working directory."""
    (tmp_path / "street.jpg").write_bytes(encode(two_rectangles(), "JPEG"))
    (tmp_path / "images.raw").write_bytes(np.stack([two_rectangles()] * 2).tobytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_every_curl_of_the_page_succeeds_in_turn(person: Served, folder: Path) -> None:
    for command in CURLS:
        runnable = command.replace("curl ", "curl --fail-with-body -sS ").replace(BASE, person.url)
        result = subprocess.run(runnable, shell=True, cwd=folder, capture_output=True, text=True, check=False)
        assert result.returncode == 0, command + result.stdout + result.stderr
    assert (folder / "answer.bin").stat().st_size > 2 * 16 * (4 * 4 + 4 + 8)


def test_the_python_of_the_page_finds_what_is_in_the_picture(
    person: Served, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run(EXAMPLES[0], person)["found"]
    assert found.as_numpy("boxes").shape == (1, 2, 4)
    assert "50." in capsys.readouterr().out


def test_the_sequence_of_the_page_remembers_what_it_has_seen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    windows = np.zeros((2, 4, 32, 48), np.uint8)
    windows[0, 0, 7, 30] = 1
    np.save("windows.npy", windows)
    repository = tiny_stream_repository(folder, name="traffic")
    with serving(repository.root) as served:
        found = run(EXAMPLES[1], served)["found"]
    assert found.as_numpy("scores")[0, 0] == pytest.approx(1 / 3)  # the fixture's, one window after an event
    assert "0.5" in capsys.readouterr().out


def run(example: str, served: Served) -> dict[str, Any]:
    scope: dict[str, Any] = {}
    exec(example.replace(BASE.removeprefix("http://"), served.url.removeprefix("http://")), scope)
    return scope


def test_every_endpoint_of_the_protocol_has_an_example() -> None:
    paths = create_app(CommonSettings(), DetectorSettings()).openapi()["paths"]
    shown = {command.split(BASE)[1] for command in CURLS}
    ours = {path for path in paths if path == PREFIX or path.startswith(f"{PREFIX}/")}
    assert {path.replace("{model}", "person").replace("{version}", "live") for path in ours} == shown


def test_openapi_states_every_error_in_the_protocols_form() -> None:
    paths = create_app(CommonSettings(), DetectorSettings()).openapi()["paths"]
    infer = paths["/v2/models/{model}/infer"]["post"]["responses"]
    assert sorted(infer) == [
        "200",
        "400",
        "401",
        "403",
        "404",
        "408",
        "409",
        "413",
        "415",
        "422",
        "429",
        "500",
        "503",
        "504",
    ]
    for path, operations in paths.items():
        if not path.startswith(f"{PREFIX}/"):
            continue
        for operation in operations.values():
            assert {"200", "401", "500"} <= operation["responses"].keys()
            for status, response in operation["responses"].items():
                if status != "200":
                    (content,) = response["content"].items()
                    schema = {"$ref": "#/components/schemas/ErrorAnswer"}
                    assert content == ("application/json", {"schema": schema}), (path, status)
