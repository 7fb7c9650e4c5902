"""A whole run of the defects family on tiny pictures: its folder, going on after a stop, and bad data."""

import csv
import json
import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from shared.core.settings import CommonSettings
from shared.data.split_file import read_split_file
from shared.families import get_family
from shared.jobs.context import JobContext
from training import job
from training.checkpoint import read_checkpoint
from training.errors import DataUnusable, ResumeMismatch, RunStopped, WeightsUnusable
from training.run import _with_split_file_found, train

TIMES = {"seconds", "images_per_s"}


def rows_of(folder):
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


@pytest.fixture
def own_data(toy_surfaces, tmp_path):
    """A copy of the pictures whose labels may be changed."""
    data = tmp_path / "data"
    shutil.copytree(toy_surfaces, data)
    return data


def relabel(data, split, change):
    for file in sorted((data / "annotations" / split).iterdir()):
        labels = json.loads(file.read_text())["labels"]
        file.write_text(json.dumps({"labels": change(labels)}))


def test_a_run_leaves_a_complete_folder(surface_run, tmp_path, scripted_control):
    control, folder = scripted_control(), tmp_path / "run"
    summary = train(surface_run(), folder, control=control)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["monitor"] == "macro_f1"
    assert (
        metrics["val"].keys()
        == metrics["test"].keys()
        >= {
            *("loss", "macro_f1", "micro_f1", "macro_precision", "micro_recall", "map", "hamming_loss"),
            *("label_accuracy", "empty_label_accuracy", "exact_match", "empty_exact_match"),
        }
    )
    assert metrics["test"]["empty_label_accuracy"] == pytest.approx(1 - (6 + 4) / 24)
    assert metrics["per_class"]["test"].keys() == {"spot", "stripe"}
    assert metrics["per_class"]["val"]["stripe"]["training_images"] == 8
    thresholds = json.loads((folder / "thresholds.json").read_text())
    assert thresholds["probability"] == metrics["thresholds"]
    assert thresholds["class_names"] == json.loads((folder / "labels.json").read_text())
    assert [metrics["per_class"]["test"][name]["threshold"] for name in ("spot", "stripe")] == (
        metrics["thresholds"]
    )  # chosen on val, applied to test
    split_file = read_split_file(folder / "splits.json")
    assert {name: len(ids) for name, ids in split_file.parts.items()} == {"train": 24, "val": 12, "test": 12}
    for name in ("loss", "pr", "confusion", "labels", "predictions"):
        assert cv2.imread(str(folder / "plots" / f"{name}.png")) is not None
    assert summary.metrics == metrics["test"]
    assert summary.per_class == metrics["per_class"]["test"]
    assert control.of("epoch")[0].keys() >= {"macro_f1", "map", "val_loss"}


def test_the_weights_say_which_epoch_they_are_and_how_good(surface_run, tmp_path):
    train(surface_run(), tmp_path / "run")
    best = json.loads((tmp_path / "run" / "metrics.json").read_text())["best_epoch"]
    with safe_open(tmp_path / "run" / "weights.safetensors", framework="pt") as file:
        metadata = file.metadata()
    row = rows_of(tmp_path / "run")[best - 1]
    assert metadata["epoch"] == str(best)
    assert float(metadata["macro_f1"]) == pytest.approx(float(row["macro_f1"]), abs=1e-6)


def test_the_losss_class_frequencies_are_those_of_the_training_split_and_in_the_checkpoint(
    surface_run, tmp_path
):
    train(surface_run("trainer.max_epochs=1"), tmp_path / "run")
    state = read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    assert state["criterion.alpha"].tolist() == pytest.approx([1 - 12 / 24, 1 - 8 / 24])
    assert not [name for name in load_file(tmp_path / "run" / "weights.safetensors") if "alpha" in name]


def test_a_stopped_run_goes_on_to_the_same_result(surface_run, tmp_path, scripted_control):
    config = surface_run("trainer.max_epochs=3", "model.stochastic_depth=0.5")  # the network draws too
    train(config, tmp_path / "whole")
    with pytest.raises(RunStopped):
        # 4 steps, 2 batches of validation and one question before saving an epoch; the cache asks 36 times.
        train(config, tmp_path / "parts", control=scripted_control(36 + 10))
    assert len(rows_of(tmp_path / "parts")) == 1
    train(config, tmp_path / "parts")
    a, b = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert rows_of(tmp_path / "whole") == rows_of(tmp_path / "parts")


def test_a_run_whose_data_was_relabelled_is_not_gone_on_with(surface_run, own_data, tmp_path):
    train(surface_run(f"data.path='{own_data}'", "trainer.max_epochs=1"), tmp_path / "run")
    relabel(own_data, "val", lambda labels: ["spot"])
    with pytest.raises(ResumeMismatch, match="other splits"):
        train(surface_run(f"data.path='{own_data}'", "trainer.max_epochs=2"), tmp_path / "run")


def test_overfit_judges_by_the_training_pictures(surface_overrides, toy_surfaces, tmp_path):
    from shared.config import compose_run

    config = compose_run("defects", "overfit", [*surface_overrides, "trainer.max_epochs=1"])
    train(config, tmp_path / "run")
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"] == {"train": 24, "val": 24}
    assert metrics["evaluated_on"] == "val"


def test_a_set_that_is_not_divided_is_divided_by_the_ratios_and_again_by_the_runs_own_file(
    surface_run, toy_surfaces, tmp_path
):
    data = tmp_path / "undivided"
    for split in ("train", "val", "test"):
        for kind in ("images", "annotations"):
            (data / kind).mkdir(parents=True, exist_ok=True)
            for file in (toy_surfaces / kind / split).iterdir():
                shutil.copy(file, data / kind / f"{split}{file.name}")
    (data / "classes.txt").write_text("spot\nstripe\n")
    common = (f"data.path='{data}'", "trainer.max_epochs=1")
    train(surface_run(*common, "data.ratios='50,25,25'"), tmp_path / "first")
    first = read_split_file(tmp_path / "first" / "splits.json")
    assert {name: len(ids) for name, ids in first.parts.items()} == {"train": 24, "val": 12, "test": 12}
    assert (first.seed, first.ratios) == (0, {"train": 50, "val": 25, "test": 25})
    again = surface_run(*common, "seed=7", f"data.split_file='{tmp_path / 'first' / 'splits.json'}'")
    train(again, tmp_path / "again")
    assert read_split_file(tmp_path / "again" / "splits.json").parts == first.parts


def test_a_split_file_with_the_data_stands_before_one_under_the_data_root(surface_run, tmp_path):
    (tmp_path / "data").mkdir()
    config = surface_run("data.split_file=own.json").data
    (tmp_path / "own.json").touch()
    found = _with_split_file_found(config, tmp_path / "data", tmp_path)
    assert found.split_file == str(tmp_path / "own.json")
    (tmp_path / "data" / "own.json").touch()
    assert _with_split_file_found(config, tmp_path / "data", tmp_path) == config


def test_a_job_trains_defects_and_returns_what_a_sweep_compares(surface_overrides, toy_surfaces, tmp_path):
    class Lease:
        def report(self, type_, data): ...
        def stop_requested(self): ...
        def ensure(self): ...

    settings = CommonSettings(var_dir=tmp_path, data_root=toy_surfaces.parent, mlflow_uri="")
    overrides = [*surface_overrides, "trainer.max_epochs=1", f"data.path={toy_surfaces.name}"]
    params = {"family": "defects", "recipe": "light", "overrides": overrides}
    result = job.run(JobContext("job", "train", params, 1, tmp_path / "runs" / "job", settings, Lease()))
    assert result["metrics"].keys() >= {"macro_f1", "map"}
    assert result["per_class"]["stripe"].keys() >= {"recall", "training_images"}


@pytest.fixture
def trunk_weights(surface_run, tmp_path):
    """A file with the weights of a network of the same architecture, all of them halves."""
    config = surface_run()
    family = get_family("defects")
    network = family.build(family.config(**config.model))
    path = tmp_path / "trunk.safetensors"
    save_file({name: torch.full_like(tensor, 0.5) for name, tensor in network.state_dict().items()}, path)
    return path


def test_a_run_starts_from_given_weights_and_goes_on_from_its_own(
    surface_run, trunk_weights, tmp_path, scripted_control
):
    frozen = (
        "optimizer.lr=1e-12",
        "trainer.ema_decay=0",
        "schedule.warmup_epochs=0",
        "optimizer.weight_decay=0",
    )
    control = scripted_control()
    start = surface_run(f"model.weights='{trunk_weights}'", "trainer.max_epochs=1", *frozen)
    train(start, tmp_path / "run", control=control)
    weights = load_file(tmp_path / "run" / "last.safetensors")
    stem = next(name for name in weights if name.startswith("features.0"))
    assert torch.allclose(weights[stem], torch.tensor(0.5))
    assert any("starting from" in data["message"] for data in control.of("log"))
    trunk_weights.unlink()
    longer = surface_run(f"model.weights='{trunk_weights}'", "trainer.max_epochs=2", *frozen)
    assert train(longer, tmp_path / "run").epochs == 2


@pytest.mark.parametrize(("content", "message"), [(None, "no file"), (b"nothing", "not a")])
def test_weights_that_cannot_be_used_stop_the_run_before_an_epoch(surface_run, tmp_path, content, message):
    path = tmp_path / "weights.safetensors"
    if content:
        path.write_bytes(content)
    with pytest.raises(WeightsUnusable, match=f"model.weights.*{message}"):
        train(surface_run(f"model.weights='{path}'"), tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


# Bad data, as a training meets it.


def test_a_class_that_the_data_does_not_have_is_refused(surface_run, tmp_path):
    with pytest.raises(DataUnusable, match=r"no class 'dent'.*it has spot, stripe"):
        train(surface_run("model.class_names=[spot,dent]"), tmp_path / "run")


def test_a_set_without_any_positive_is_refused(surface_run, own_data, tmp_path):
    for split in ("train", "val", "test"):
        relabel(own_data, split, lambda labels: [])
    with pytest.raises(DataUnusable, match="holds any of the classes spot, stripe"):
        train(surface_run(f"data.path='{own_data}'"), tmp_path / "run")


def test_a_picture_in_two_splits_is_refused(surface_run, own_data, tmp_path):
    for kind, suffix in (("images", ".png"), ("annotations", ".json")):
        shutil.copy(own_data / kind / "train" / f"03{suffix}", own_data / kind / "test" / f"99{suffix}")
    with pytest.raises(DataUnusable, match=r"train/03\.png and test/99\.png"):
        train(surface_run(f"data.path='{own_data}'"), tmp_path / "run")


def test_a_class_absent_from_test_is_a_warning_and_counted(surface_run, own_data, tmp_path, scripted_control):
    relabel(own_data, "test", lambda labels: [name for name in labels if name != "stripe"])
    control = scripted_control()
    train(surface_run(f"data.path='{own_data}'", "trainer.max_epochs=1"), tmp_path / "run", control=control)
    assert any("absent from the test split: stripe" in data["message"] for data in control.of("log"))
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["per_class"]["test"]["stripe"]["auroc"] is None
    assert metrics["undefined"]["test"]["recall"] == 1


def test_a_validation_split_without_defects_is_trained_on_with_a_warning(
    surface_run, own_data, tmp_path, scripted_control
):
    relabel(own_data, "val", lambda labels: [])
    control = scripted_control()
    train(surface_run(f"data.path='{own_data}'", "trainer.max_epochs=1"), tmp_path / "run", control=control)
    assert any("none of the 12 validation images" in data["message"] for data in control.of("log"))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["thresholds"] == [0.5, 0.5]


def test_pictures_of_other_sizes_and_colours_are_letterboxed(surface_run, own_data, tmp_path):
    colour = np.zeros((50, 40, 3), np.uint8)
    colour[..., 2] = 200
    cv2.imwrite(str(own_data / "images" / "train" / "01.png"), colour)
    summary = train(surface_run(f"data.path='{own_data}'", "trainer.max_epochs=1"), tmp_path / "run")
    assert summary.epochs == 1


SEVERSTAL = "ImageId,ClassId,EncodedPixels\n"


@pytest.fixture
def severstal(tmp_path):
    """A function from the rows of a train.csv over eight strips of 64 x 32 px to its folder."""

    def make(rows: str, header: str = SEVERSTAL):
        folder = tmp_path / "severstal"
        (folder / "train_images").mkdir(parents=True)
        rng = np.random.default_rng(1)
        for number in range(8):
            image = rng.integers(0, 255, (32, 64), dtype=np.uint8)
            cv2.imwrite(str(folder / "train_images" / f"{number}.png"), image)
        (folder / "train.csv").write_text(header + rows)
        return folder

    return make


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ("", "", "is empty"),
        ("", SEVERSTAL, "holds any of the classes"),
        ("0.png,9,1 3\n", SEVERSTAL, "no row has a known class"),
    ],
    ids=["empty file", "header alone", "unknown class alone"],
)
def test_a_csv_without_anything_to_learn_is_refused(surface_run, severstal, tmp_path, rows, header, message):
    config = surface_run(
        f"data.path='{severstal(rows, header)}'", "model.class_names=['1']", "data.format=severstal"
    )
    with pytest.raises(DataUnusable, match=message):
        train(config, tmp_path / "run")


def test_broken_masks_and_unknown_classes_are_counted_and_the_rest_is_trained_on(
    surface_run, severstal, tmp_path, scripted_control
):
    rows = "0.png,1,1 3\n1.png,1,1 3\n2.png,1,1 3\n3.png,1,1 3 5\n4.png,1,2040 99\n5.png,7,1 3\n"
    control = scripted_control()
    config = surface_run(
        f"data.path='{severstal(rows)}'",
        "model.class_names=['1']",
        "data.ratios='2,1,1'",
        "trainer.max_epochs=1",
    )
    train(config, tmp_path / "run", control=control)
    told = " ".join(data["message"] for data in control.of("log"))
    for code in ("1 broken_rle", "1 rle_beyond_image", "1 unknown_class"):
        assert code in told
