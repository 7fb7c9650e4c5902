"""Leases, with stand-ins for loaded versions: nothing here looks into them."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.detector.dataplane.problems import Draining, ModelNotReady
from services.detector.dataplane.registry import ModelRegistry
from shared.repository.problems import UnknownModel


def version(number: int) -> Any:
    return SimpleNamespace(version=number, users=0)


@pytest.fixture
def registry() -> ModelRegistry:
    registry = ModelRegistry("live")
    registry.update("m", [1, 2], {"live": 1})
    registry.finish_loading("m", version(1))
    registry.serve("m", {"live": 1})
    return registry


def change_over(registry: ModelRegistry) -> None:
    registry.finish_loading("m", version(2))
    registry.serve("m", {"live": 2})


def test_a_version_in_use_is_not_given_up_before_its_last_request_ends(registry: ModelRegistry) -> None:
    with registry.lease("m") as first, registry.lease("m") as also_first:
        assert first is also_first
        change_over(registry)
        assert registry.take_unused() == []
        with registry.lease("m") as second:
            assert second.version == 2
    assert registry.take_unused() == [first]
    assert registry.take_unused() == []


def test_a_lease_ends_also_when_its_request_fails(registry: ModelRegistry) -> None:
    with pytest.raises(RuntimeError), registry.lease("m") as first:
        raise RuntimeError
    change_over(registry)
    assert registry.take_unused() == [first]


def test_while_a_version_loads_the_earlier_one_answers(registry: ModelRegistry) -> None:
    registry.update("m", [1, 2], {"live": 2})
    registry.begin_loading("m", 2)
    with registry.lease("m", "live") as loaded:
        assert loaded.version == 1
    with pytest.raises(ModelNotReady, match="being loaded"), registry.lease("m", "2"):
        pass


def test_a_model_that_left_is_unknown_and_its_versions_are_given_up(registry: ModelRegistry) -> None:
    registry.remove("m")
    with pytest.raises(UnknownModel), registry.lease("m"):
        pass
    assert [loaded.version for loaded in registry.take_unused()] == [1]


def test_after_closing_everything_is_handed_back_and_nothing_is_leased(registry: ModelRegistry) -> None:
    change_over(registry)
    assert sorted(loaded.version for loaded in registry.close()) == [1, 2]
    with pytest.raises(Draining), registry.lease("m"):
        pass
