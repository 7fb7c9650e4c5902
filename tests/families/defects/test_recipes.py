"""The defects family's recipes and sweeps against specs/defects.md."""

import pytest
import yaml

from shared.config import ConfigError, compose_run
from shared.families import config_class, get_family, recipes_dir

RECIPES = sorted(recipes_dir("defects").glob("*.yaml"))
SWEEPS = sorted((recipes_dir("defects").parent / "sweeps").glob("*.yaml"))


def run(recipe, *overrides):
    return compose_run("defects", recipe, ["data.path=somewhere", *overrides])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_its_command_and_composes_to_a_run_that_is_judged_by_macro_f1(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# sightline train defects")
    assert path.stem == "recommended" or f"--recipe {path.stem}" in first
    composed = run(path.stem)
    assert composed.trainer.monitor == "macro_f1"
    assert (composed.optimizer.name, composed.schedule.name) == ("adamw", "cosine")
    assert "path" not in (yaml.safe_load(path.read_text()).get("data") or {})


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_opens_with_its_command(path):
    assert path.read_text().startswith(f"# sightline sweep defects {path.stem} ")


def test_reference_is_the_specs_network_loss_and_patience():
    composed = run("reference")
    assert composed.model == config_class("defects")().model_dump(mode="json")
    assert (composed.model["architecture"], composed.model["loss"]) == ("convnext_tiny_cbam", "focal")
    assert (composed.model["height"], composed.model["width"]) == (256, 1600)
    assert composed.trainer.early_stopping_patience == 15
    assert composed.data.ratios == "70,15,15"
    augmentation = composed.augmentation
    assert (augmentation.horizontal_flip, augmentation.vertical_flip) == (0.5, 0.5)
    assert augmentation.shift > 0 < augmentation.brightness_contrast
    assert augmentation.gaussian_noise > 0


def test_light_is_small_enough_for_two_cores():
    composed = run("light")
    family = get_family("defects")
    network = family.build(family.config(**composed.model))
    assert sum(parameter.numel() for parameter in network.parameters()) < 2_000_000
    assert (composed.model["height"], composed.model["width"]) == (128, 800)


def test_overfit_judges_by_the_pictures_it_learned():
    composed = run("overfit")
    assert composed.data.val == composed.data.train
    assert composed.augmentation == type(composed.augmentation)()


def test_a_number_that_only_detection_has_is_no_monitor():
    with pytest.raises(
        ConfigError, match=r"trainer.monitor='ap50' is not measured in classification.*macro_f1"
    ):
        run("light", "trainer.monitor=ap50")
