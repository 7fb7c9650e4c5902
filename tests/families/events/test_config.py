"""Options of the family: what a sensor stands for, and what is refused."""

import pytest
from pydantic import ValidationError

from shared.families.events.config import EventsConfig


@pytest.mark.parametrize(
    ("sensor", "size", "padded", "partition", "cells"),
    [
        ("gen1", (240, 304), (256, 320), (8, 10), 1680),
        ("gen4", (360, 640), (384, 640), (6, 10), 5040),
        ("etram", (360, 640), (384, 640), (6, 10), 5040),
    ],
)
def test_sensors_are_those_of_the_specification(sensor, size, padded, partition, cells):
    config = EventsConfig(sensor=sensor)
    assert config.sensor_size == size
    assert config.padded_size == padded
    assert config.partition_size == partition
    assert config.cell_count == cells


def test_classes_come_from_the_sensor_a_number_or_names():
    assert EventsConfig(sensor="gen1", num_classes=2).classes == ("car", "pedestrian")
    assert EventsConfig(sensor="gen4").classes == ("pedestrian", "two-wheeler", "car")
    assert len(EventsConfig(sensor="etram").classes) == 8
    assert EventsConfig(sensor="gen4", num_classes=5).classes == ("0", "1", "2", "3", "4")
    assert EventsConfig(class_names=["a", "b", "c"]).classes == ("a", "b", "c")


def test_a_sensor_can_be_worked_on_at_another_size():
    config = EventsConfig(sensor="gen4", height=120, width=160)
    assert config.padded_size == (128, 192)  # multiples of 64
    assert config.partition_size == (2, 3)
    assert EventsConfig(sensor="gen4", height=120, width=160, partition_split=1).padded_size == (128, 160)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sensor": "custom"}, "needs height, width, class_names"),
        ({"sensor": "custom", "height": 64, "width": 64}, "needs class_names"),
        ({"num_classes": 3, "class_names": ["a", "b"]}, "num_classes is 3, but class_names has 2"),
        ({"class_names": ["a", "a"]}, "stand twice: a"),
        ({"class_names": ["a", " "]}, "empty name"),
        ({"size": "huge"}, "tiny"),
        ({"scales": 5}, "3 or 4"),
        ({"size_aware": 0}, "greater than 0"),
        ({"attnetion": "se"}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(options, told):
    with pytest.raises(ValidationError, match=told):
        EventsConfig(**options)


def test_it_is_frozen_and_survives_being_written_down():
    config = EventsConfig(size="base", sensor="gen4", size_aware=32.0, scales=4)
    with pytest.raises(ValidationError, match="frozen"):
        config.size = "tiny"
    assert EventsConfig(**config.model_dump(mode="json")) == config
