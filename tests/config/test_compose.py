"""From a recipe and overrides to a checked run, and what a wrong one is told."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.config import (
    ConfigError,
    RunConfig,
    apply_overrides,
    compose_run,
    dump_run_config,
    load_run_config,
)
from shared.config.task_keys import TASK_KEYS
from shared.data.transforms.registry import AUGMENTATIONS


def compose(*overrides: str, recipe: str = "recommended") -> RunConfig:
    return compose_run("person", recipe, ["data.path=cctv", *overrides])


def test_overrides_set_single_values_and_choose_from_groups():
    run = compose(
        "optimizer=sgd", "trainer.max_epochs=3", "model.grid_size=13", "optimizer.lr=1e-3", "seed=7"
    )
    assert (run.optimizer.name, run.optimizer.lr, run.trainer.max_epochs, run.seed) == ("sgd", 1e-3, 3, 7)
    assert run.model["grid_size"] == 13
    assert run.model["depth"] == "base"  # the family's defaults are filled in


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("trainer.max_epoch=3", "trainer.max_epochs"),
        ("trainer.batchsize=3", "trainer.batch_size"),
        ("lr=1e-3", "optimizer.lr"),
        ("grid_size=13", "model.grid_size"),
        ("model.gridsize=13", "model.grid_size"),
        ("augmentation.flip_horizontal=1", "augmentation.horizontal_flip"),
        ("optimizer=adamm", "adam"),
        ("optimizer.name=adm", "adam"),
    ],
)
def test_a_wrong_word_is_told_the_nearest_right_one(override, nearest):
    with pytest.raises(ConfigError, match=rf"Did you mean '{nearest}'"):
        compose(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.batch_size=many", "trainer.batch_size='many'"),
        ("trainer.batch_size=true", "trainer.batch_size=True"),
        ("trainer.batch_size=8.5", "trainer.batch_size=8.5"),
        ("trainer.batch_size=0", "greater than or equal to 1"),
        ("optimizer.lr=-1", "greater than 0"),
        ("optimizer.lr=inf", "should be a finite number"),
        ("model.lambda_coord=inf", "should be a finite number"),
        ("model.image_size=100", "multiple of 16"),
        ("model=3", "expected keys and values"),
        ("augmentation.gamma_min=3", "gamma_min 3.0 is above gamma_max 1.2"),
        ("data.format=pascal", "'coco'"),
        ("data.ratios='80,20'", "three shares above 0"),
        ("data.ratios='80,20,0'", "three shares above 0"),
        ("data.ratios='a,b,c'", "three shares above 0"),
        ("trainer.monitor=macro_f1", "trainer.monitor='macro_f1' is not measured in detection"),
        ("schedule.monitor=map", "There are: ap, ap50, val_loss"),
    ],
)
def test_a_wrong_value_is_told_what_is_allowed(override, message):
    with pytest.raises(ConfigError) as error:
        compose(override)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "override",
    [
        "seed",
        "seed=[1",
        "seed=1,2",
        "~optimizer",
        "optimizer@x=sgd",
        "optimizer=../base",
        "trainer={max_epochs: 3}",
        "hydra.run.dir=x",
        "family=person",
        "",
    ],
)
def test_what_is_not_a_plain_override_is_refused(override):
    with pytest.raises(ConfigError):
        compose(override)


def test_an_override_cannot_read_the_environment(monkeypatch):
    monkeypatch.setenv("SECRET", "s3cret")
    with pytest.raises(ConfigError, match="references") as error:
        compose("data.path=${oc.env:SECRET}")
    assert "s3cret" not in str(error.value)


def test_unknown_family_and_recipe_name_the_nearest():
    with pytest.raises(ConfigError, match="'person'"):
        compose_run("persn")
    with pytest.raises(ConfigError, match="'recommended'"):
        compose_run("person", "recomended")


def test_a_run_without_data_says_which_key_to_set():
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        compose_run("person")


def test_every_mistake_is_reported_at_once():
    with pytest.raises(ConfigError) as error:
        compose("trainer.batch_size=0", "optimizer.lr=0", "model.depth=wide")
    assert len(error.value.problems) == 3


def test_config_yaml_reads_back_equal(tmp_path):
    run = compose("model.multi_scale=true", "data.path='a folder, with = signs'")
    path = tmp_path / "config.yaml"
    path.write_text(dump_run_config(run))
    assert load_run_config(path) == run


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "family: person\nepochs: 3"])
def test_a_broken_config_yaml_is_a_config_error(tmp_path, text):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load_run_config(path)


def test_a_composed_run_takes_further_overrides():
    changed = apply_overrides(compose("seed=3"), ["trainer.max_epochs=7"])
    assert (changed.seed, changed.trainer.max_epochs) == (3, 7)
    with pytest.raises(ConfigError, match="optimizer"):
        apply_overrides(compose(), ["optimizer=sgd"])


def test_composing_from_several_threads_gives_each_its_own():
    with ThreadPoolExecutor(8) as pool:
        seeds = list(pool.map(lambda seed: compose(f"seed={seed}").seed, range(16)))
    assert seeds == list(range(16))


def test_composing_loads_no_torch_and_writes_nothing(tmp_path):
    code = (
        "import sys; from shared.config import compose_run; compose_run('person', overrides=['data.path=x']);"
        "assert 'torch' not in sys.modules"
    )
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(root)}, check=True, timeout=60
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "override", "its_task"),
    [
        ("person", "data.window=64x64", "classification"),
        ("person", "data.clip_length=5", "stream_detection"),
        ("person", "data.split_file=splits.json", "classification"),
        ("events", "data.ratios='60,20,20'", "classification"),
        ("events", "augmentation.gamma=0.5", "detection and classification"),
        ("defects", "augmentation.zoom_in=0.5", "stream_detection"),
        ("events", "data.repeat_rare=0.5", "classification"),
    ],
)
def test_a_key_that_would_have_no_effect_is_refused_with_the_task_it_is_for(family, override, its_task):
    with pytest.raises(
        ConfigError, match=rf"{override.partition('=')[0]}=.* has no effect .* is for {its_task}"
    ):
        compose_run(family, "recommended", ["data.path=x", override])


def test_streams_are_mirrored_but_take_no_other_change_of_pictures():
    changes = {key: tasks for (section, key), tasks in TASK_KEYS.items() if section == "augmentation"}
    of_pictures = {key for key, tasks in changes.items() if "detection" in tasks}
    assert of_pictures == set(AUGMENTATIONS) - {"horizontal_flip"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["trainer.gradient_clip_norm=1.0"], "not both"),
        (["schedule.warmup_epochs=1"], "one_cycle rises by itself"),
        (["augmentation.zoom_out=0.5"], "never both"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides, said):
    with pytest.raises(ConfigError, match=said):
        compose_run("events", "reference", ["data.path=x", *overrides])
