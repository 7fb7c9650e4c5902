"""Recipes against specs/events.md, sections 9 and 14."""

import pytest

from shared.config import compose_run, recipe_names
from shared.data.events.classes import CLASS_LISTS


def composed(recipe):
    return compose_run("events", recipe, ["data.path=frames"])


def test_there_is_a_recipe_for_every_variant_of_the_spec():
    variants = {"size_aware", "four_scale", "four_scale_size_aware", "attention"}
    assert set(recipe_names("events")) == {"reference", "recommended", "light", *variants}


def test_the_reference_is_published_training_on_gen1():
    run = composed("reference")
    assert (run.model["size"], run.model["sensor"]) == ("base", "gen1")
    assert (run.data.clip_length, run.data.sampling, run.trainer.batch_size) == (21, "mixed", 8)
    assert (run.optimizer.name, run.optimizer.lr, run.optimizer.weight_decay) == ("adamw", 2e-4, 0)
    assert (run.schedule.name, run.trainer.gradient_clip_value, run.trainer.ema_decay) == ("one_cycle", 1, 0)
    changes = run.augmentation
    assert changes.horizontal_flip == 0.5
    assert changes.zoom_in + changes.zoom_out == pytest.approx(0.8)
    assert changes.zoom_in / changes.zoom_out == pytest.approx(8 / 2)
    assert (changes.zoom_in_factor, changes.zoom_out_factor, changes.zoom_out_streamed) == (1.5, 1.2, 0.5)


def test_no_variant_is_on_by_default():
    for recipe in ("reference", "recommended", "light"):
        model = composed(recipe).model
        assert (model["scales"], model["size_aware"], model["attention"]) == (3, None, "none")
        assert (model["depthwise_lstm"], model["temporal_consistency"]) == ("none", 0)


def test_light_takes_what_the_simulator_makes():
    model = composed("light").model
    assert (model["height"], model["width"], model["size"]) == (120, 160, "nano")
    assert tuple(model["class_names"]) == CLASS_LISTS["etram3"].names
