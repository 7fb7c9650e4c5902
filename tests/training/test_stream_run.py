"""A whole run over tiny streams: its folder, what it refuses, and going on after a stop."""

import csv
import json
import re
import shutil
from typing import get_args

import cv2
import h5py
import pytest
import torch
from safetensors.torch import load_file

from shared.families import get_family
from shared.metrics.stream_protocol import PROTOCOLS
from tests.data.events.clips.preprocessed import Drawn, labelled, write_set
from training.errors import DataUnusable, ResumeMismatch, RunStopped, WeightsUnusable
from training.memory_bench import ProtocolName, compare_memory
from training.run import train
from training.tasks import TASKS

TASK = TASKS["stream_detection"]
TIMES = {"seconds", "images_per_s"}


def rows_of(folder):
    with (folder / "results.csv").open() as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def finished(stream_run, tmp_path_factory):
    """An undisturbed run of two epochs: its config, folder, summary and events."""
    from tests.training.conftest import ScriptedControl

    folder = tmp_path_factory.mktemp("streams") / "run"
    config = stream_run("tracking.hypothesis='blocks can be found'", "tracking.baseline=before")
    (folder.parent / "before").mkdir()
    before = {"run_id": "before", "val": {"loss": 1.0}, "data_hash": {}}
    (folder.parent / "before" / "metrics.json").write_text(json.dumps(before))
    control = ScriptedControl()
    return config, folder, train(config, folder, control=control), control


def test_a_run_leaves_numbers_of_every_class_and_size(finished):
    _, folder, summary, control = finished
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["evaluated_on"] == "test"
    assert metrics["recordings"] == {"train": 2, "val": 1, "test": 1}
    assert metrics["test"].keys() >= {"ap", "ap50", "ap_small", "ap_medium", "ap_large", "recall_at_rest"}
    assert metrics["per_class"]["test"].keys() == {"pedestrian", "vehicle"}
    assert metrics["per_class"]["test"]["vehicle"]["boxes"] == 4
    assert metrics["counts"]["test"]["truths"] == 12
    assert metrics["hypothesis"] == "blocks can be found"
    assert metrics["baseline"]["gain"] == {"loss": pytest.approx(metrics["val"]["loss"] - 1)}
    assert sum(map(sum, metrics["confusion"]["test"])) >= 12
    assert summary.per_class == metrics["per_class"]["test"]
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert rows[0].keys() >= {"val_loss", "ap", "ap_small", "ap/pedestrian", "ap/vehicle", "loss_box"}
    for name in ("loss", "pr", "confusion"):
        assert cv2.imread(str(folder / "plots" / f"{name}.png")) is not None
    assert json.loads((folder / "labels.json").read_text()) == ["pedestrian", "vehicle"]
    # the first label is in window 4, so 15 of 16 windows are played, 3 clips of 4; 6 clips in 2 of 4 lanes
    assert control.of("step")[-1]["total_steps"] == 2 * 3
    assert dict(TASK.summary(summary.metrics, summary.per_class))["class vehicle"].endswith("of 4")


def test_a_stopped_run_goes_on_to_the_same_result(finished, tmp_path, scripted_control):
    config, expected, _, _ = finished
    config = config.model_copy(update={"tracking": config.tracking.model_copy(update={"baseline": None})})
    # three steps and three validation batches an epoch, each with a question after it, and one before saving
    with pytest.raises(RunStopped) as stopped:
        train(config, tmp_path / "run", control=scripted_control(2 * 2 + 3 + 3 + 1 + 2))
    assert stopped.value.last_epoch == 1
    train(config, tmp_path / "run")
    assert rows_of(tmp_path / "run") == rows_of(expected)
    for name in ("last.safetensors", "weights.safetensors"):
        first, second = load_file(expected / name), load_file(tmp_path / "run" / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model.bins=5", "set model.bins=1, or"),
        ("model.window_ms=20", "set model.window_ms=50, or"),
        ("model.half=true", "set model.half=false, or"),
        ("model.height=96", "set model.sensor=custom model.height=64 model.width=64, or"),
        ("model.representation=ternary_volume", "set model.representation=stacked_histogram"),
        ("model.class_names=[vehicle,pedestrian]", "set model.class_names='[pedestrian,vehicle]'"),
        ("data.clip_length=40", "data.clip_length=40"),
        ("trainer.batch_size=1", "mixed sampling needs a batch of 2"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_with_what_to_set(stream_run, tmp_path, override, said):
    with pytest.raises(DataUnusable, match=re.escape(said)):
        train(stream_run(override), tmp_path / "run")


def test_recordings_that_cannot_be_used_are_told(stream_run, tmp_path, scripted_control):
    frames = tmp_path / "frames"
    block = labelled(12, 4, 8)
    outside = Drawn(12, {4: [(96, 10, 12, 20, 0, 1)]})  # beyond the last column, so that no box is left
    splits = {"train": {"long": block, "short": labelled(3, 1)}, "val": {"a": block}, "test": {"b": outside}}
    write_set(frames, splits)
    here = [f"data.path='{frames}'", "model.height=64", "model.width=96"]
    with pytest.raises(DataUnusable, match=r"no test recording .* holds a box; set data\.test=null"):
        train(stream_run(*here), tmp_path / "run")
    control = scripted_control()
    once = [*here, "data.test=null", "data.sampling=stream", "trainer.max_epochs=1"]
    train(stream_run(*once), tmp_path / "run", control=control)
    told = [event["message"] for event in control.of("log")]
    assert any("from 1 of 2 training recordings, which are shorter than 4 windows" in text for text in told)
    assert any(text.endswith(": short") for text in told)


def test_memory_is_not_compared_on_recordings_that_are_damaged(finished, toy_streams, tmp_path):
    config, folder, _, _ = finished
    copy = shutil.copytree(toy_streams, tmp_path / "copy")
    (file,) = copy.glob("test/d/**/event_representations.h5")
    with h5py.File(file, "r+") as opened:
        opened["data"].id.write_direct_chunk((5, 0, 0, 0), b"no frame")
    damaged = config.model_copy(update={"data": config.data.model_copy(update={"path": str(copy)})})
    with pytest.raises(DataUnusable, match=r"event_representations\.h5 cannot be read"):
        compare_memory(damaged, folder, "test")


def test_imported_weights_are_not_trained_over(finished, stream_run, tmp_path):
    (tmp_path / "rvt").mkdir()
    (tmp_path / "rvt" / "import.json").write_text("{}")
    with pytest.raises(ResumeMismatch, match=r"start a new run with model\.weights=.*weights\.safetensors"):
        train(stream_run(), tmp_path / "rvt")
    assert [path.name for path in (tmp_path / "rvt").iterdir()] == ["import.json"]


def test_a_network_starts_from_the_weights_it_is_told(finished, stream_run):
    config, folder, _, _ = finished
    family = get_family("events")

    def started(**given):
        network = family.build(family.config(**config.model))
        told = TASK.start(family, network, family.config(**{**config.model, **given}), folder)
        return network.state_dict(), told

    weights, told = started(weights="weights.safetensors")
    assert "tensors loaded" in told
    assert all(
        torch.equal(weights[name], tensor)
        for name, tensor in load_file(folder / "weights.safetensors").items()
    )
    assert started()[1] is None
    with pytest.raises(WeightsUnusable, match=r"model.weights: .*labels.json"):
        started(weights="labels.json")


def test_memory_is_compared_with_the_same_weights_without_it(finished):
    config, folder, summary, _ = finished
    compared = compare_memory(config, folder, "test")
    assert compared.carried == pytest.approx({name: summary.metrics[name] for name in compared.carried})
    assert compared.forgotten.keys() == compared.carried.keys() >= {"ap50", "recall_at_rest", "recall_moving"}
    # four windows of the block at rest are 150 ms: too short to count as at rest
    assert (compared.windows, compared.boxes_at_rest, compared.boxes_moving) == (8, 0, 12)
    assert set(get_args(ProtocolName)) == set(PROTOCOLS)
    # 0.8 s of recording: nothing but what is later than half a second counts, and that is smaller than 20 px
    published = compare_memory(config, folder, "test", "prophesee_gen4")
    assert (published.windows, published.carried["ap"]) == (0, None)
