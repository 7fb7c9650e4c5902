"""Options of the defects family, and what wrong ones are told."""

import pytest
from pydantic import ValidationError

from shared.config import ConfigError, compose_run
from shared.families.defects.config import DefectsConfig


def test_the_defaults_are_the_specs():
    config = DefectsConfig()
    assert (config.architecture, config.loss, config.gamma) == ("convnext_tiny_cbam", "focal", 2.0)
    assert (config.height, config.width, config.class_names) == (256, 1600, ["1", "2", "3", "4"])
    assert (config.negative_floor, config.spatial_gate_norm) == (0.25, "group")
    assert config.weights is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"height": 250},
            "250 is not a multiple of 32, .*; the nearest are 224 and 256",
        ),
        ({"width": 16}, "greater than or equal to 32"),
        ({"architecture": "convnet_tiny"}, "no classification architecture.*did you mean 'convnext_tiny'"),
        ({"architecture": "person_grid"}, "no classification architecture is called 'person_grid'"),
        ({"loss": "squared"}, "no classification loss is called 'squared'.*focal, bce"),
        ({"class_names": []}, "at least 1 item"),
        ({"class_names": ["a", "b", "a"]}, "class names stand twice: a"),
        ({"class_names": ["a", " "]}, "empty name"),
        ({"prior": 0.0}, "greater than 0"),
        ({"stochastic_depth": 1.0}, "less than 1"),
        ({"alpha_total": "masks"}, "'images'"),
        ({"archiecture": "resnet50"}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_option_is_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        DefectsConfig(**values)


def test_a_run_with_an_unknown_architecture_is_told_the_nearest():
    with pytest.raises(ConfigError, match=r"model\.architecture='convnext_pcio': no .*'convnext_pico'"):
        compose_run("defects", "recommended", ["data.path=x", "model.architecture=convnext_pcio"])
