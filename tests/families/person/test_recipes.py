"""The person family's recipes against specs/person.md, "Training"."""

import pytest
import yaml

from shared.config import compose_run
from shared.families import get_family, recipes_dir
from shared.families.person.config import PersonConfig

RECIPES = sorted(recipes_dir("person").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_opens_with_its_command_and_composes_to_a_run_that_builds(path):
    first = path.read_text().splitlines()[0]
    assert first.startswith("# sightline train person")
    assert path.stem == "recommended" or f"--recipe {path.stem}" in first
    run = compose_run("person", path.stem, ["data.path=somewhere"])
    assert run.recipe == path.stem
    get_family("person").build(PersonConfig(**run.model))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_needs_no_more_than_the_data(path):
    assert "path" not in (yaml.safe_load(path.read_text()).get("data") or {})


def test_reference_holds_the_sources_values():
    run = compose_run("person", "reference", ["data.path=somewhere"])
    assert PersonConfig(**run.model) == PersonConfig()
    assert (run.optimizer.name, run.optimizer.lr, run.optimizer.lr_reference_batch) == ("adam", 5e-5, None)
    assert (run.trainer.batch_size, run.trainer.max_epochs, run.trainer.early_stopping_patience) == (
        4,
        100,
        10,
    )
    assert (run.schedule.name, run.schedule.factor, run.schedule.patience) == ("plateau", 0.5, 5)
    assert run.schedule.warmup_epochs == 0
    assert run.trainer.ema_decay == 0
    assert run.augmentation == type(run.augmentation)()  # nothing is changed at random


def test_recommended_scales_its_rate_with_the_batch_warms_up_and_augments():
    run = compose_run("person", "recommended", ["data.path=somewhere"])
    assert run.trainer.batch_size >= 8
    assert (run.optimizer.lr, run.optimizer.lr_reference_batch) == (1e-4, 4)
    assert (run.schedule.warmup_epochs, run.schedule.warmup_lr) == (5, 1e-6)
    augmentation = run.augmentation
    assert (augmentation.horizontal_flip, augmentation.brightness_contrast) == (0.5, 0.5)
    assert augmentation.brightness_contrast_limit == 0.3
    assert (augmentation.gaussian_noise, augmentation.motion_blur, augmentation.motion_blur_px) == (
        0.3,
        0.3,
        5,
    )
    assert (augmentation.gamma, augmentation.gamma_min, augmentation.gamma_max) == (0.3, 0.8, 1.2)
    assert augmentation.clahe == 0.2


def test_overfit_judges_by_the_pictures_it_learned():
    run = compose_run("person", "overfit", ["data.path=somewhere"])
    assert run.data.val == run.data.train
    assert run.augmentation == type(run.augmentation)()
