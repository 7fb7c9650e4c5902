"""A worker killed in the middle of an epoch: another goes on and ends as an undisturbed run does."""

import csv
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from shared.data.synthetic.cctv import generate_cctv
from shared.jobs.schema import JobState
from tests.jobs.worker_stack import Stack, wait_for

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SIDE_PX = 64
EPOCHS = 4
OVERRIDES = [
    "data.path=toy",
    f"model.image_size={SIDE_PX}",
    "model.grid_size=4",
    "model.depth=light",
    "trainer.batch_size=4",
    f"trainer.max_epochs={EPOCHS}",
    "trainer.num_threads=1",
    "trainer.accelerator=cpu",
    "schedule.warmup_epochs=1",
    "tracking=none",
]
DEADLINE_S = 180.0
SPEED = {"seconds", "images_per_s"}  # columns that tell how fast the machine was


def training(stack: Stack) -> str:
    return stack.submit("train", family="person", recipe="recommended", overrides=OVERRIDES)


def rows(run_dir: Path) -> list[dict[str, str]]:
    """Return results.csv without what depends on the machine's speed."""
    with (run_dir / "results.csv").open() as file:
        table = list(csv.DictReader(file))
    return [{key: value for key, value in row.items() if key not in SPEED} for row in table]


def is_amid_epoch(stack: Stack, job_id: str) -> bool:
    events = stack.store.events(job_id, limit=10_000)
    epochs = [event.data["epoch"] for event in events if event.type == "epoch"]
    return len(epochs) in range(1, EPOCHS) and events[-1].type == "step"


@pytest.mark.timeout(600)
def test_training_ends_as_if_its_worker_had_not_been_killed(tmp_path: Path, redis_url: str) -> None:
    generate_cctv(
        tmp_path / "data" / "toy", count={"train": 120, "val": 8, "test": 8}, size=(SIDE_PX, SIDE_PX)
    )
    stack = Stack(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", redis_url)
    patient = {"SIGHTLINE_QUEUE_LEASE_S": "4"}  # imports keep a busy machine's threads waiting
    try:
        first = stack.start_worker("-m", "training.worker", **patient)
        killed = training(stack)
        wait_for(lambda: is_amid_epoch(stack, killed), DEADLINE_S)
        first.send_signal(signal.SIGKILL)
        first.wait(timeout=10)
        assert not stack.store.get(killed).state.is_final
        stack.start_worker("-m", "training.worker", **patient)
        undisturbed = training(stack)
        ends = [stack.wait_for_end(job_id, DEADLINE_S) for job_id in (killed, undisturbed)]
    finally:
        stack.close()
    assert [(job.state, job.attempt) for job in ends] == [(JobState.SUCCEEDED, 2), (JobState.SUCCEEDED, 1)], (
        ends
    )
    folders = [tmp_path / "runs" / job.id for job in ends]
    assert rows(folders[0]) == rows(folders[1])
    assert len(rows(folders[0])) == EPOCHS
    for name in ("weights.safetensors", "last.safetensors"):
        resumed, whole = (load_file(folder / name) for folder in folders)
        assert resumed.keys() == whole.keys()
        assert all(torch.equal(resumed[key], whole[key]) for key in whole), name  # to the last bit
