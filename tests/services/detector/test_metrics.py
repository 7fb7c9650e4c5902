import pytest
from prometheus_client import CollectorRegistry

from services.detector.metrics import DetectorMetrics

FALLBACK = "sightline_detector_provider_fallback"
VERSION = {"model": "person", "version": "3"}


@pytest.mark.parametrize("fell_back", [False, True])
def test_a_fallback_is_told_of_for_as_long_as_the_version_is_loaded(fell_back: bool) -> None:
    registry = CollectorRegistry()
    metrics = DetectorMetrics(registry)
    metrics.of_version("person", 3)
    assert registry.get_sample_value(FALLBACK, VERSION) is None
    metrics.loaded("person", 3, "CPUExecutionProvider", 0.5, fell_back=fell_back)
    assert registry.get_sample_value(FALLBACK, VERSION) == int(fell_back)
    metrics.unloaded("person", 3, "CPUExecutionProvider")
    assert registry.get_sample_value(FALLBACK, VERSION) is None
