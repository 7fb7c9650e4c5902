"""The code and the numbers of docs/families/events.md."""

import re
from pathlib import Path

import torch

from shared.families.events.config import SENSORS, SIZES, EventsConfig
from shared.families.events.family import EVENTS

DOCUMENT = (Path(__file__).parents[3] / "docs" / "families" / "events.md").read_text()


def test_the_first_example_runs():
    scope = {}
    with torch.inference_mode():
        exec(re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)[0], scope)
    assert scope["decoded"].shape == (1, 1680, 7)
    assert len(scope["states"]) == 4


def test_sizes_and_sensors_are_listed_as_they_are():
    for size in SIZES:
        counts = []
        for sensor in ("gen1", "gen4"):
            with torch.device("meta"):
                network = EVENTS.build(EventsConfig(size=size, sensor=sensor))
            counts.append(f"{sum(parameter.numel() for parameter in network.parameters()):,}")
        dims = ", ".join(str(dim) for dim in EventsConfig(size=size).stage_dims)
        assert f"| `{size}` | {dims} | {counts[0]} | {counts[1]} |" in DOCUMENT
    for sensor in SENSORS:
        config = EventsConfig(sensor=sensor)
        row = next(line for line in DOCUMENT.splitlines() if line.startswith(f"| `{sensor}`"))
        assert " × ".join(map(str, config.sensor_size)) in row
        assert " × ".join(map(str, config.padded_size)) in row
        assert f"{config.cell_count:,}" in row


def test_every_variant_is_named():
    variants = EventsConfig.model_fields.keys() - {
        "size",
        "sensor",
        "representation",
        "bins",
        "window_ms",
        "half",
        "score_threshold",
        "iou_threshold",
    }
    assert all(f"`{name}" in DOCUMENT for name in variants)
