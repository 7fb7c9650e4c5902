"""Loading and unloading on demand, beside what the aliases say."""

import threading
from collections.abc import Iterator

import pytest

from services.detector.dataplane.control import VersionState
from services.detector.dataplane.problems import Draining, LoadFailed, ModelNotReady
from shared.repository import ModelRepository
from shared.repository.manifest import MODEL_FILE
from shared.repository.problems import UnknownModel
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.services.detector.dataplane.plane import Plane, data_plane
from tests.services.detector.serving import until


@pytest.fixture
def plane(repository: ModelRepository) -> Iterator[Plane]:
    with data_plane(repository) as plane:
        until(lambda: plane.watcher.scanned)
        yield plane


def version_of(plane: Plane, name: str = "tiny") -> int:
    with plane.registry.lease(name) as loaded:
        return loaded.version


def test_an_unloaded_model_answers_not_ready_until_it_is_loaded_again(
    plane: Plane, repository: ModelRepository
) -> None:
    plane.control.unload("tiny")
    with pytest.raises(ModelNotReady, match="unloaded; load it again"):
        version_of(plane)
    assert plane.control.index() == [VersionState("tiny", 1, "UNAVAILABLE", "unloaded")]
    add_tiny_version(repository)  # an alias that moves does not bring it back
    plane.watcher.scan()
    with pytest.raises(ModelNotReady):
        version_of(plane)
    plane.control.load("tiny")
    assert version_of(plane) == 2
    assert [(one.version, one.state) for one in plane.control.index()] == [(1, "UNAVAILABLE"), (2, "READY")]


def test_load_takes_up_a_new_model_and_a_moved_alias_at_once(
    plane: Plane, repository: ModelRepository
) -> None:
    add_tiny_version(repository, "second")
    add_tiny_version(repository)
    plane.control.load("second")
    plane.control.load("tiny")
    assert (version_of(plane, "second"), version_of(plane)) == (1, 2)


def test_load_says_what_is_wrong_and_leaves_what_is_served(plane: Plane, repository: ModelRepository) -> None:
    add_tiny_version(repository)
    (repository.root / "tiny" / "2" / MODEL_FILE).write_bytes(b"broken")
    for _ in range(2):  # also while the watcher would still wait before another attempt
        with pytest.raises(LoadFailed, match=r"version 2 \(live\) cannot be loaded: .*model\.onnx"):
            plane.control.load("tiny")
    assert version_of(plane) == 1
    (state,) = [one for one in plane.control.index() if one.version == 2]
    assert state.state == "UNAVAILABLE"
    assert "model.onnx" in state.reason


def test_a_model_that_nothing_makes_live_cannot_be_loaded(plane: Plane, repository: ModelRepository) -> None:
    add_tiny_version(repository, "draft", promote=False)
    with pytest.raises(LoadFailed, match="promote one"):
        plane.control.load("draft")


def test_names_that_are_not_there_are_unknown(plane: Plane) -> None:
    for act in (plane.control.load, plane.control.unload):
        with pytest.raises(UnknownModel, match="did you mean 'tiny'"):
            act("tinny")


def test_unloading_waits_for_the_last_request(plane: Plane) -> None:
    unloading = threading.Thread(target=plane.control.unload, args=("tiny",))
    with plane.registry.lease("tiny"):
        unloading.start()
        until(lambda: plane.control.index() == [VersionState("tiny", 1, "UNLOADING", "")])
        unloading.join(0.05)
        assert unloading.is_alive()
    unloading.join(10)
    assert not unloading.is_alive()
    assert plane.metrics.get_sample_value("sightline_detector_live_version", {"model": "tiny"}) is None
    labels = {"model": "tiny", "version": "1", "provider": "CPUExecutionProvider"}
    assert plane.metrics.get_sample_value("sightline_detector_version_loaded", labels) is None


def test_a_version_that_comes_back_before_its_last_request_ended_keeps_its_metrics(
    plane: Plane, repository: ModelRepository
) -> None:
    with plane.registry.lease("tiny"):
        add_tiny_version(repository)
        plane.watcher.scan()
        repository.promote("tiny", 1)
        plane.watcher.scan()
        assert version_of(plane) == 1  # a second copy: the first is on its way out
    plane.watcher.scan()
    labels = {"model": "tiny", "version": "1"}
    assert plane.metrics.get_sample_value("sightline_detector_queue_depth", labels) == 0
    assert plane.metrics.get_sample_value("sightline_detector_provider_fallback", labels) == 0
    provider = {"provider": "CPUExecutionProvider"}
    assert plane.metrics.get_sample_value("sightline_detector_version_loaded", labels | provider) == 1
    assert plane.metrics.get_sample_value("sightline_detector_queue_depth", labels | {"version": "2"}) is None
    plane.control.unload("tiny")
    assert plane.metrics.get_sample_value("sightline_detector_queue_depth", labels) is None


def test_once_the_server_stops_nothing_is_loaded_any_more(repository: ModelRepository) -> None:
    with data_plane(repository) as plane:
        until(lambda: plane.watcher.scanned)
        plane.watcher.stop(5.0)
        with pytest.raises(Draining):
            plane.control.load("tiny")
        assert plane.registry.models() == {}
