"""A whole run: its folder, going on after a stop, and what stops it."""

import csv
import dataclasses
import errno
import json
import os
import pickle
import re
import shutil
import signal

import cv2
import pytest
import torch
from safetensors.torch import load_file

import training.checkpoint
import training.engine
from shared.config import load_run_config
from shared.families import get_family
from training.checkpoint import read_checkpoint
from training.errors import (
    CheckpointUnreadable,
    DataUnusable,
    DiskFull,
    NonFiniteLoss,
    ResumeMismatch,
    RunStopped,
)
from training.run import train

TIMES = {"seconds", "images_per_s"}


def rows_of(folder):
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def weights_of(folder, name="last.safetensors"):
    return load_file(folder / name)


def assert_same_run(first, second):
    for name in ("last.safetensors", "weights.safetensors"):
        a, b = weights_of(first, name), weights_of(second, name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert rows_of(first) == rows_of(second)
    a, b = (read_checkpoint(folder / "checkpoints" / "last.ckpt") for folder in (first, second))
    assert a["global_step"] == b["global_step"]
    for key, state in a["optimizer_states"][0]["state"].items():
        assert all(torch.equal(state[name], b["optimizer_states"][0]["state"][key][name]) for name in state)


@pytest.fixture
def undisturbed(toy_run, tmp_path):
    config = toy_run("trainer.max_epochs=3", "trainer.accumulate_grad_batches=2")
    train(config, tmp_path / "undisturbed")
    return config, tmp_path / "undisturbed"


def test_a_run_leaves_a_complete_folder(toy_run, tmp_path, scripted_control):
    config, control = toy_run(), scripted_control()
    summary = train(config, tmp_path / "run", control=control)
    folder = tmp_path / "run"
    assert load_run_config(folder / "config.yaml") == config
    assert json.loads((folder / "labels.json").read_text()) == ["person"]
    assert [row["epoch"] for row in rows_of(folder)] == ["1", "2"]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["evaluated_on"] == "test"
    assert (
        metrics["test"].keys() == metrics["val"].keys() >= {"loss", "ap", "ap50", "precision", "recall", "f1"}
    )
    assert metrics["parameters"] == sum(
        p.numel() for p in get_family("person").build(_model(config)).parameters()
    )
    assert set(metrics["data_hash"]) == {"train", "val", "test"}
    for name in ("loss", "pr", "f1", "confusion", "labels", "predictions"):
        assert cv2.imread(str(folder / "plots" / f"{name}.png")) is not None
    assert not list(folder.rglob(".*")), "no temporary file stays"
    assert (summary.run_id, summary.epochs, summary.stopped_early) == ("run", 2, False)
    assert [event["epoch"] for event in control.of("epoch")] == [1, 2]
    assert control.of("step")[0].keys() >= {"step", "total_steps", "loss"}


def _model(config):
    return get_family("person").config(**config.model)


# Three epochs of two steps; a question after each step, one per validation batch, one before saving.
@pytest.mark.parametrize("stop_at", [[1], [2, 3], [5, 9]], ids=["first step", "twice", "later epochs"])
def test_a_stopped_run_goes_on_to_the_same_result(undisturbed, tmp_path, scripted_control, stop_at):
    config, expected = undisturbed
    folder = tmp_path / "stopped"
    for question in stop_at:
        with pytest.raises(RunStopped) as stopped:
            train(config, folder, control=scripted_control(question))
        assert stopped.value.reason == "cancel"
        if stopped.value.last_epoch:
            assert len(rows_of(folder)) == stopped.value.last_epoch
    train(config, folder)
    assert_same_run(expected, folder)


def test_sigterm_between_two_epochs_is_a_stop_like_any_other(toy_run, tmp_path, scripted_control):
    class TerminatedAfterAnEpoch(scripted_control):
        def report(self, type: str, **data) -> None:  # noqa: A002
            super().report(type, **data)
            if type == "epoch":
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped) as stopped:
        train(toy_run(), tmp_path / "run", control=TerminatedAfterAnEpoch())
    assert (stopped.value.reason, stopped.value.last_epoch) == ("shutdown", 1)


def test_more_epochs_go_on_from_a_finished_run_as_if_it_had_been_longer(undisturbed, toy_run, tmp_path):
    _, expected = undisturbed
    folder = tmp_path / "longer"
    train(toy_run("trainer.max_epochs=2", "trainer.accumulate_grad_batches=2"), folder)
    train(toy_run("trainer.max_epochs=3", "trainer.accumulate_grad_batches=2"), folder)
    assert_same_run(expected, folder)


@pytest.mark.slow
def test_loader_processes_change_nothing(undisturbed, toy_run, tmp_path, scripted_control):
    _, expected = undisturbed
    config = toy_run("trainer.max_epochs=3", "trainer.accumulate_grad_batches=2", "data.num_workers=1")
    with pytest.raises(RunStopped):
        train(config, tmp_path / "workers", control=scripted_control(7))
    train(config, tmp_path / "workers")
    assert_same_run(expected, tmp_path / "workers")


def test_another_seed_gives_other_weights(toy_run, tmp_path):
    for seed in (0, 1):
        train(toy_run(f"seed={seed}", "trainer.max_epochs=1"), tmp_path / str(seed))
    a, b = weights_of(tmp_path / "0"), weights_of(tmp_path / "1")
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_a_folder_with_another_run_is_refused_and_kept(toy_run, tmp_path):
    train(toy_run("trainer.max_epochs=1"), tmp_path / "run")
    before = (tmp_path / "run" / "config.yaml").read_text()
    with pytest.raises(ResumeMismatch, match=r"optimizer\.lr"):
        train(toy_run("optimizer.lr=0.5"), tmp_path / "run")
    assert (tmp_path / "run" / "config.yaml").read_text() == before


def with_loss(monkeypatch, loss):
    family = dataclasses.replace(get_family("person"), loss=loss)
    monkeypatch.setattr(training.engine, "get_family", lambda name: family)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_term_step_and_checkpoint(
    toy_run, tmp_path, monkeypatch
):
    real, calls = get_family("person").loss, []

    def loss(config, outputs, targets):
        terms = real(config, outputs, targets)
        if outputs.requires_grad:
            calls.append(1)
            if len(calls) == 4:  # the second step of the second epoch
                wrong = terms["loss_obj_pos"] * float("nan")
                terms = {**terms, "loss_obj_pos": wrong, "loss": terms["loss"] + wrong}
        return terms

    with_loss(monkeypatch, loss)
    with pytest.raises(NonFiniteLoss) as error:
        train(toy_run("trainer.max_epochs=3"), tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert (error.value.epoch, error.value.step, error.value.last_good) == (2, 3, checkpoint)
    assert "'loss_obj_pos'" in str(error.value)
    assert str(checkpoint) in str(error.value)
    assert len(rows_of(tmp_path / "run")) == 1
    assert pickle.loads(pickle.dumps(error.value)).epoch == 2, "it crosses process boundaries"


def test_weights_that_are_not_finite_never_replace_a_checkpoint(toy_run, tmp_path, monkeypatch):
    real = get_family("person").loss

    def loss(config, outputs, targets):
        terms = real(config, outputs, targets)
        return {**terms, "loss": terms["loss"] + (outputs * 0).sum().sqrt()}  # finite, its gradient is not

    with_loss(monkeypatch, loss)
    with pytest.raises(NonFiniteLoss, match="network's"):
        train(toy_run("trainer.batch_size=9"), tmp_path / "run")  # one step an epoch
    assert not (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("wrapped", [False, True], ids=["OSError", "torch's RuntimeError"])
def test_a_full_disk_leaves_the_previous_checkpoint_and_the_run_goes_on_later(
    undisturbed, tmp_path, monkeypatch, wrapped
):
    config, expected = undisturbed
    folder, real, saved = tmp_path / "full", torch.save, []

    def save(value, path):
        saved.append(path)
        if len(saved) == 2:
            path.write_bytes(b"half a checkpoint")
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if not wrapped:
                raise full
            raise RuntimeError("PytorchStreamWriter failed writing file") from full
        real(value, path)

    monkeypatch.setattr(training.checkpoint.torch, "save", save)
    with pytest.raises(DiskFull, match="no space left") as error:
        train(config, folder)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    assert error.value.last_good == checkpoint
    assert [path.name for path in checkpoint.parent.iterdir()] == ["last.ckpt"]
    assert len(read_checkpoint(checkpoint)["sightline"]["history"]["rows"]) == 1
    train(config, folder)
    assert_same_run(expected, folder)


class _Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_with_code_in_it_is_not_run(toy_run, tmp_path):
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"sightline": _Attack(tmp_path / "owned")}, checkpoint)
    with pytest.raises(CheckpointUnreadable, match=re.escape(str(checkpoint))):
        train(toy_run(), tmp_path / "run")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", ["nothing", "half", "another program's"])
def test_a_checkpoint_that_cannot_be_used_is_named_and_kept(toy_run, tmp_path, content):
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    torch.save({"state_dict": {}}, checkpoint)
    whole = checkpoint.read_bytes()
    given = {"nothing": b"", "half": whole[: len(whole) // 2], "another program's": whole}[content]
    checkpoint.write_bytes(given)
    with pytest.raises(CheckpointUnreadable, match=re.escape(str(checkpoint))):
        train(toy_run(), tmp_path / "run")
    assert checkpoint.read_bytes() == given


def test_early_stopping_ends_the_run_and_a_second_start_only_evaluates(toy_run, tmp_path, scripted_control):
    config = toy_run(
        "trainer.max_epochs=6",
        "trainer.early_stopping_patience=1",
        "trainer.monitor=val_loss",
        "optimizer.lr=1e-12",
        "optimizer.lr_reference_batch=null",
        "schedule.warmup_lr=0",
        "trainer.ema_decay=0",
    )
    summary = train(config, tmp_path / "run")
    assert summary.stopped_early
    assert summary.epochs < 6
    control = scripted_control()
    again = train(config, tmp_path / "run", control=control)
    assert (again.epochs, again.metrics) == (summary.epochs, summary.metrics)
    assert control.of("epoch") == []
    patient = config.trainer.model_copy(update={"early_stopping_patience": 9})
    assert train(config.model_copy(update={"trainer": patient}), tmp_path / "run").epochs == 6


def test_a_missing_split_names_those_there_are(toy_run, tmp_path):
    with pytest.raises(DataUnusable, match="test, train, val"):
        train(toy_run("data.val=held_out"), tmp_path / "run")


@pytest.fixture
def own_data(toy_data, tmp_path):
    """A copy of the toy data, and a function that changes the labels of one split."""
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)

    def change(split, edit):
        path = data / "annotations" / f"{split}.json"
        labels = json.loads(path.read_text())
        edit(labels)
        path.write_text(json.dumps(labels))
        return data

    return change


def test_a_validation_split_without_a_person_is_refused_before_training(own_data, toy_run, tmp_path):
    def only_crowds(labels):
        for annotation in labels["annotations"]:
            annotation["iscrowd"] = 1

    with pytest.raises(DataUnusable, match=r"no validation image .* holds a box of person"):
        train(toy_run(f"data.path='{own_data('val', only_crowds)}'"), tmp_path / "run")


def test_what_is_left_out_of_the_data_is_said(own_data, toy_run, tmp_path, scripted_control):
    control = scripted_control(1)
    data = own_data("train", lambda labels: labels["annotations"][0].update(bbox=[5, 5, 0, 9]))
    with pytest.raises(RunStopped):
        train(toy_run(f"data.path='{data}'", "data.test=tset"), tmp_path / "run", control=control)
    told = [event["message"] for event in control.of("log")]
    assert any("1 empty_box" in message and f"data check {data}" in message for message in told)
    assert any("no split 'tset'" in message for message in told)


def test_a_set_smaller_than_a_batch_trains_in_smaller_steps_and_says_so(toy_run, tmp_path, scripted_control):
    control = scripted_control()
    train(toy_run("trainer.batch_size=32", "trainer.max_epochs=1"), tmp_path / "run", control=control)
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["global_step"] == 1
    assert any("one step of 9" in event["message"] for event in control.of("log"))


def test_a_stop_takes_effect_while_images_are_cached(toy_run, tmp_path, scripted_control, monkeypatch):
    monkeypatch.setattr(training.engine, "build_trainer", None)  # it does not come this far
    with pytest.raises(RunStopped):
        train(toy_run("data.cache=ram"), tmp_path / "run", control=scripted_control(2))


def test_without_a_validation_split_training_images_are_held_out(toy_run, tmp_path, scripted_control):
    control = scripted_control()
    train(toy_run("data.val=null", "trainer.max_epochs=1"), tmp_path / "run", control=control)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["images"]["train"] + metrics["images"]["val"] == 9
    assert any("holding out" in event["message"] for event in control.of("log"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_that_cannot_be_read_is_named(toy_data, toy_run, tmp_path, split):
    data = tmp_path / "data"
    shutil.copytree(toy_data, data)
    (data / split / "1.png").write_bytes(b"not an image")
    with pytest.raises(DataUnusable, match=rf"{split}/1\.png"):
        train(toy_run(f"data.path='{data}'", "trainer.batch_size=3"), tmp_path / "run")
