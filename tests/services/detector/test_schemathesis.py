"""Schemathesis, which makes requests out of the OpenAPI document, finds nothing on either transport.

The same by hand, against a running detector:

    export SCHEMATHESIS_HOOKS=tests/services/detector/schemathesis_hooks.py PYTHONPATH=.
    schemathesis --config-file tests/services/detector/schemathesis.toml run http://127.0.0.1:8100/openapi.json
"""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.fixtures.tiny_classification_model import add_tiny_classifier
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.fixtures.tiny_stream_model import add_tiny_stream_version
from tests.services.detector.serving import ROOT, Served, serving

CONFIG = Path(__file__).with_name("schemathesis.toml")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


@pytest.fixture
def quiet_served(tmp_path: Path) -> Iterator[Served]:
    """A detector that does not log each of thousands of requests."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    repository = tiny_repository(tmp_path, versions=2)
    add_tiny_classifier(repository, "sorter")
    add_tiny_stream_version(repository, "watcher")
    try:
        with serving(repository.root) as served:
            yield served
    finally:
        structlog.configure(**before)


@pytest.mark.timeout(120)
def test_schemathesis_finds_nothing(quiet_served: Served, tmp_path: Path) -> None:
    output = schemathesis(quiet_served, CONFIG, tmp_path)
    operations = quiet_served.client.get("/openapi.json").json()["paths"]
    count = sum(len(methods) for methods in operations.values())
    assert f"Tested: {count}" in output  # none was left out


@pytest.mark.timeout(120)
@pytest.mark.parametrize("model", ["tiny", "sorter"])
def test_schemathesis_finds_nothing_in_a_model_that_it_is_told(
    quiet_served: Served, tmp_path: Path, model: str
) -> None:
    """Made-up names seldom come past 404. Unloading is left out, so that all else meets a loaded model."""
    config = tmp_path / "schemathesis.toml"
    told = f'\n[parameters]\n"path.model" = "{model}"\n"path.version" = "live"\n'
    config.write_text(CONFIG.read_text().replace("max-examples = 15", "max-examples = 8") + told)
    schemathesis(quiet_served, config, tmp_path, "--exclude-path-regex", "/unload$")
    assert quiet_served.client.get(f"/v2/models/{model}/ready").status_code == 200
    statistics = quiet_served.client.get(f"/v2/models/{model}/stats").json()["model_stats"]
    assert statistics[0]["inference_count"] > 0  # some requests were answered


def schemathesis(served: Served, config: Path, folder: Path, *options: str) -> str:
    """Run it and return what it printed; fails where it found something."""
    url = f"{served.url}/openapi.json"
    command = [SCHEMATHESIS, "--config-file", config, "run", url, "--no-color", *options]
    hooks = {"SCHEMATHESIS_HOOKS": str(HOOKS), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout[-20_000:] + ended.stderr
    return ended.stdout
