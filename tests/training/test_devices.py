"""Several processes on one machine, joined by Lightning's ddp strategy over gloo."""

import csv
import multiprocessing
from types import SimpleNamespace

import pytest
import torch

from training import devices
from training.callbacks import EndOfEpoch
from training.errors import RunStopped
from training.run import train


def test_a_process_whose_parent_was_killed_stops_as_one_without_a_lease(monkeypatch):
    relay = devices._Relay(multiprocessing.get_context("spawn"))
    assert relay.stop_requested() is None
    parent = SimpleNamespace(is_alive=lambda: True)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    assert relay.stop_requested() is None
    parent.is_alive = lambda: False
    assert relay.stop_requested() == "lease_lost"


def test_an_epochs_numbers_are_those_of_all_devices():
    def reduce(tensor, reduce_op):
        assert reduce_op == "sum"
        return tensor + torch.tensor([3.0, 2.0, 4.0])  # the other device's loss, collisions and images

    strategy = SimpleNamespace(root_device="cpu", reduce=reduce)
    trainer = SimpleNamespace(strategy=strategy, world_size=2, current_epoch=0, global_step=1)
    module = SimpleNamespace(
        mean_terms=lambda: {"loss": 1.0},
        epoch_counts={"collisions": 5},
        epoch_samples=4,
        learning_rate=SimpleNamespace(at=lambda step: 0.1),
    )
    row = EndOfEpoch(None, None, None, None)._row(trainer, module, train_s=2.0)
    assert (row["loss"], row["collisions"], row["images_per_s"]) == (2.0, 7, 4.0)


@pytest.mark.slow
def test_two_processes_train_report_and_go_on_after_a_stop(toy_run, tmp_path, scripted_control):
    config = toy_run("trainer.devices=2", "trainer.accelerator=cpu", "trainer.batch_size=2")
    events = []

    class StopAfterTheFirstEpoch(scripted_control):
        def stop_requested(self):
            return "cancel" if self.of("epoch") else None

    with pytest.raises(RunStopped) as stopped:
        train(config, tmp_path / "run", control=StopAfterTheFirstEpoch())
    assert stopped.value.reason == "cancel"

    control = scripted_control()
    summary = train(config, tmp_path / "run", control=control)
    events = control.of("epoch")
    assert summary.epochs == 2
    assert [event["epoch"] for event in events] == list(range(3 - len(events), 3))
    with (tmp_path / "run" / "results.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]


@pytest.mark.slow
def test_streams_are_divided_among_two_processes(stream_run, tmp_path, scripted_control):
    # 6 clips of streams in one lane of each process: 3 steps, with a single clip beside each
    here = ["trainer.devices=2", "trainer.accelerator=cpu", "trainer.batch_size=2", "trainer.max_epochs=1"]
    control = scripted_control()
    summary = train(stream_run(*here), tmp_path / "run", control=control)
    assert summary.epochs == 1
    assert control.of("step")[-1]["total_steps"] == 3
    (epoch,) = control.of("epoch")
    assert epoch["boxes"] > 0
    assert 0 < epoch["loss"] < float("inf")
