"""Several processes on one machine, joined by Lightning's ddp strategy over gloo."""

import csv

import pytest

from training.errors import RunStopped
from training.run import train

pytestmark = pytest.mark.slow


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
