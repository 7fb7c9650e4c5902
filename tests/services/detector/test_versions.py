"""Following the repository: what is served changes in one step, and never to something broken."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from shared.repository import ModelRepository
from shared.repository.manifest import MODEL_FILE
from tests.fixtures.tiny_detection_model import TinyModel, add_tiny_version, tiny_repository
from tests.services.detector.pictures import RED_SCORE, encode, two_rectangles
from tests.services.detector.serving import Served, serving, until

PICTURE = encode(two_rectangles())


@pytest.fixture
def served(repository: ModelRepository) -> Iterator[Served]:
    with serving(repository.root, retry_max_s=0.05) as served:
        yield served


def version_now(served: Served) -> int:
    version: int = served.detect(PICTURE).json()["version"]
    return version


def move_alias(repository: ModelRepository, version: int, name: str = "tiny") -> None:
    """Write aliases.json as another program would, without the checks of ModelRepository."""
    repository.aliases_path(name).write_text(json.dumps({"live": version}))


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def failures(served: Served, version: int) -> float:
    return served.metric("sightline_detector_load_failures_total", version=str(version))


def test_a_promoted_version_takes_over_and_the_old_one_is_unloaded(
    served: Served, repository: ModelRepository
) -> None:
    assert version_now(served) == 1
    add_tiny_version(repository)
    until(lambda: version_now(served) == 2)
    until(lambda: served.client.get("/v1/models/tiny").json()["loaded"] == [2])
    until(lambda: served.metric("sightline_detector_version_loaded", version="1") == 0)
    assert served.metric("sightline_detector_version_loaded", version="2") == 1
    assert served.metric("sightline_detector_live_version", model="tiny") == 2


def test_a_rollback_is_followed_too(served: Served, repository: ModelRepository) -> None:
    add_tiny_version(repository)
    until(lambda: version_now(served) == 2)
    repository.rollback("tiny")
    until(lambda: version_now(served) == 1)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        pytest.param(flip_a_byte, "corrupt_version", id="one bit is other"),
        pytest.param(Path.unlink, "corrupt_version", id="model file missing"),
        pytest.param(lambda path: path.write_bytes(b""), "corrupt_version", id="model file empty"),
        pytest.param(
            lambda path: (path.parent / "manifest.json").unlink(), "corrupt_version", id="no manifest"
        ),
        pytest.param(lambda path: shutil.rmtree(path.parent), "unknown_version", id="no such version"),
    ],
)
def test_a_broken_version_is_reported_and_the_good_one_goes_on(
    served: Served, repository: ModelRepository, damage: object, reason: str
) -> None:
    add_tiny_version(repository, promote=False)
    damage(repository.root / "tiny" / "2" / MODEL_FILE)  # type: ignore[operator]
    move_alias(repository, 2)
    until(lambda: "version 2" in str(served.ready()[1]["warnings"]))
    assert served.metric("sightline_detector_load_failures_total", version="2", reason=reason) >= 1
    assert version_now(served) == 1
    status, ready = served.ready()
    assert status == 200
    assert "version 2 (live) cannot be loaded" in ready["warnings"][0]
    model = served.client.get("/v1/models/tiny").json()
    assert (model["state"], model["version"], model["aliases"]) == ("ready", 1, {"live": 2})
    assert model["problems"]


def test_an_alias_that_moves_back_from_a_broken_version_ends_the_attempts(
    served: Served, repository: ModelRepository
) -> None:
    add_tiny_version(repository, promote=False)
    flip_a_byte(repository.root / "tiny" / "2" / MODEL_FILE)
    move_alias(repository, 2)
    until(lambda: failures(served, 2) >= 2)
    move_alias(repository, 1)
    until(lambda: served.ready()[1]["warnings"] == [])
    attempts = failures(served, 2)
    time.sleep(0.2)  # ten rounds, four times the longest wait before another attempt
    assert failures(served, 2) == attempts


def test_a_broken_version_that_was_repaired_is_taken_up_by_itself(
    served: Served, repository: ModelRepository
) -> None:
    add_tiny_version(repository, promote=False)
    path = repository.root / "tiny" / "2" / MODEL_FILE
    flip_a_byte(path)
    move_alias(repository, 2)
    until(lambda: failures(served, 2) >= 1)
    flip_a_byte(path)
    until(lambda: version_now(served) == 2)
    assert served.ready()[1]["warnings"] == []


def test_a_graph_that_is_not_what_its_manifest_says_is_not_served(
    served: Served, repository: ModelRepository
) -> None:
    from tests.fixtures.tiny_detection_model import tiny_detection_model, tiny_manifest

    def build(folder: Path) -> object:
        (folder / MODEL_FILE).write_bytes(tiny_detection_model(TinyModel(height=48, width=48)))
        return tiny_manifest()

    repository.promote("tiny", repository.add_version("tiny", build))  # type: ignore[arg-type]
    until(lambda: "version 2" in str(served.ready()[1]["warnings"]))
    assert served.metric("sightline_detector_load_failures_total", reason="unusable_graph") >= 1
    assert "[-1, 48, 48, 3] in the graph" in served.ready()[1]["warnings"][0]
    assert version_now(served) == 1


def test_aliases_that_cannot_be_read_change_nothing_until_they_can(
    served: Served, repository: ModelRepository
) -> None:
    add_tiny_version(repository, promote=False)
    repository.aliases_path("tiny").write_text('{"live": ')
    until(lambda: served.ready()[1]["warnings"])
    assert version_now(served) == 1
    move_alias(repository, 2)
    until(lambda: version_now(served) == 2)
    assert served.ready()[1]["warnings"] == []


def test_a_repository_that_disappears_takes_no_model_with_it(
    served: Served, repository: ModelRepository, tmp_path: Path
) -> None:
    repository.root.rename(tmp_path / "elsewhere")
    until(lambda: served.ready()[0] == 503)
    assert "cannot be read" in served.ready()[1]["reasons"][0]
    assert version_now(served) == 1
    (tmp_path / "elsewhere").rename(repository.root)
    until(lambda: served.ready()[0] == 200)


def test_a_model_that_appears_later_is_picked_up_and_one_that_leaves_is_unloaded(
    served: Served, repository: ModelRepository
) -> None:
    assert served.detect(PICTURE, model="second").status_code == 404
    add_tiny_version(repository, "second")
    until(lambda: served.detect(PICTURE, model="second").status_code == 200)
    (repository.root / "second").rename(repository.root / ".second")
    until(lambda: served.detect(PICTURE, model="second").status_code == 404)
    assert version_now(served) == 1


def test_a_model_without_a_live_version_is_listed_and_says_what_to_do(
    served: Served, repository: ModelRepository
) -> None:
    add_tiny_version(repository, "draft", promote=False)
    until(lambda: served.client.get("/v1/models/draft").status_code == 200)
    response = served.detect(PICTURE, model="draft")
    assert response.status_code == 503
    assert "promote" in response.json()["detail"]
    assert int(response.headers["retry-after"]) >= 1
    (repository.root / "draft").rename(repository.root / ".draft")
    until(lambda: served.detect(PICTURE, model="draft").status_code == 404)
    assert served.ready() == (200, {"status": "ready", "reasons": [], "warnings": []})


def test_versions_of_further_aliases_are_kept_loaded_when_asked_for(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, versions=2)
    with serving(repository.root, aliases=["live", "previous"]) as served:
        for version, number in [("previous", 1), ("1", 1), ("live", 2), ("2", 2)]:
            response = served.client.post(f"/v1/models/tiny/versions/{version}/detect", content=PICTURE)
            assert response.json()["version"] == number
        assert version_now(served) == 2


def test_twenty_swaps_under_load_fail_no_request_and_mix_no_answer(
    served: Served, repository: ModelRepository
) -> None:
    # The versions differ in their scores, so an answer shows which graph it came from.
    scales = {1: 1.0, 2: 0.75}
    add_tiny_version(repository, model=TinyModel(score_scale=scales[2]), promote=False)
    stop = threading.Event()
    seen: list[tuple[int, list[float]]] = []
    failed: list[str] = []

    def load() -> None:
        with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                files = [("images", PICTURE)] * 3
                answer = client.post("/v1/models/tiny/detect/batch", files=files)
                if answer.status_code != 200:
                    failed.append(answer.text)
                    continue
                body = answer.json()
                scores = [result["detections"][0]["score"] for result in body["results"]]
                seen.append((body["version"], scores))

    threads = [threading.Thread(target=load) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        for swap in range(20):
            target = 2 - swap % 2
            repository.promote("tiny", target)
            until(lambda target=target: served.client.get("/v1/models/tiny").json()["version"] == target)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failed == []
    assert {version for version, _ in seen} == {1, 2}
    for version, scores in seen:
        assert scores == pytest.approx([RED_SCORE * scales[version]] * 3, abs=1e-6)
