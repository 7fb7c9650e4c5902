from typing import Any

import pytest
from pydantic import ValidationError

from services.detector.settings import DetectorSettings, available_cores


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_DETECTOR_PORT", "8109")
    monkeypatch.setenv("SIGHTLINE_DETECTOR_ALIASES", "live, previous,")
    settings = DetectorSettings()
    assert (settings.port, settings.aliases) == (8109, ["live", "previous"])


@pytest.mark.parametrize("value", ["", " , "])
def test_at_least_one_alias_is_served(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SIGHTLINE_DETECTOR_ALIASES", value)
    with pytest.raises(ValidationError, match="aliases"):
        DetectorSettings()


def test_on_a_cpu_there_are_as_many_instances_as_the_cores_hold() -> None:
    assert DetectorSettings().worker_threads == available_cores()
    assert DetectorSettings(intra_op_threads=10_000).worker_threads == 1
    assert DetectorSettings(provider="cuda").worker_threads == 2
    assert DetectorSettings(provider="tensorrt").worker_threads == 2
    assert DetectorSettings(instances=7).worker_threads == 7


@pytest.mark.parametrize(
    ("cores", "settings", "wide"),
    [
        (4, {}, 4),
        (1, {}, None),  # there is nothing to share out
        (4, {"intra_op_threads": 1}, None),  # fixed by whoever set it
        (4, {"provider": "cuda"}, None),
    ],
)
def test_a_lone_request_may_have_every_core_unless_threads_are_fixed(
    monkeypatch: pytest.MonkeyPatch, cores: int, settings: dict[str, Any], wide: int | None
) -> None:
    monkeypatch.setattr("services.detector.settings.available_cores", lambda: cores)
    assert DetectorSettings(**settings).wide_threads == wide
