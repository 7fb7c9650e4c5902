from pathlib import Path

import onnxruntime
import pytest

from shared.repository import ModelRepository
from shared.repository.manifest import MODEL_FILE
from tests.fixtures.tiny_detection_model import add_tiny_version, tiny_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import serving, until

PICTURE = encode(two_rectangles())
without_cuda = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this build has CUDA"
)


@pytest.mark.parametrize("exists", [True, False])
def test_an_empty_repository_is_live_and_not_ready_until_a_model_comes(tmp_path: Path, exists: bool) -> None:
    root = tmp_path / "repository"
    if exists:
        root.mkdir()
    with serving(root, wait_ready=False) as served:
        assert served.client.get("/livez").status_code == 200
        until(lambda: "holds no model" in str(served.ready()[1]["reasons"]))
        assert served.ready()[0] == 503
        assert served.detect(PICTURE).status_code == 404
        assert served.client.get("/v1/models").json() == {"models": []}
        add_tiny_version(ModelRepository(root))
        until(lambda: served.ready()[0] == 200)
        assert served.detect(PICTURE).status_code == 200


def test_with_nothing_but_a_broken_version_readiness_says_what_is_broken(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    (repository.root / "tiny" / "1" / MODEL_FILE).write_bytes(b"broken")
    with serving(repository.root, wait_ready=False) as served:
        until(lambda: MODEL_FILE in str(served.ready()[1]["reasons"]))
        assert served.ready()[0] == 503
        response = served.detect(PICTURE)
        assert response.status_code == 503
        assert MODEL_FILE in response.json()["detail"]


@without_cuda
def test_a_provider_that_is_not_there_fails_readiness_and_is_named(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    with serving(repository.root, wait_ready=False, provider="cuda", max_batch=1) as served:
        until(lambda: "CUDAExecutionProvider was asked for" in str(served.ready()[1]["reasons"]))
        assert served.ready()[0] == 503
        loaded = {"model": "tiny", "version": "1", "provider": "CPUExecutionProvider"}
        assert served.metric("sightline_detector_version_loaded", **loaded) == 1
        assert served.metric("sightline_detector_provider_fallback", model="tiny", version="1") == 1


@without_cuda
def test_a_fallback_that_was_allowed_is_ready(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    with serving(repository.root, provider="cuda", allow_provider_fallback=True) as served:
        assert served.detect(PICTURE).status_code == 200
