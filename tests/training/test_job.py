"""Training as a job: what the worker gets back, and what it is told when it stops."""

import pytest

from shared.core.settings import CommonSettings
from shared.jobs.context import JobCancelled, JobContext, JobRefused, JobReleased
from training.errors import RunStopped
from training.job import run


class FakeLease:
    def __init__(self, stop=None):
        self.stop, self.events, self.ensured = stop, [], 0

    def report(self, type_, data):
        self.events.append((type_, data))

    def stop_requested(self):
        return self.stop

    def ensure(self):
        self.ensured += 1


@pytest.fixture
def attempt(toy_data, toy_overrides, tmp_path):
    """A function from a lease and further overrides to a context whose data root holds `toy_data`."""

    def make(lease, *overrides):
        settings = CommonSettings(var_dir=tmp_path, data_root=toy_data.parent, mlflow_uri="")
        params = {
            "family": "person",
            "recipe": "recommended",
            "overrides": [*toy_overrides, "trainer.max_epochs=1", f"data.path={toy_data.name}", *overrides],
        }
        return JobContext("job-1", "train", params, 1, tmp_path / "runs" / "job-1", settings, lease)

    return make


def test_a_job_trains_under_the_data_root_and_returns_its_metrics(attempt, tmp_path):
    lease = FakeLease()
    result = run(attempt(lease))
    assert result["run_id"] == "job-1"
    assert result["metrics"].keys() >= {"ap", "ap50"}
    assert (tmp_path / "runs" / "job-1" / "weights.safetensors").is_file()
    assert [data["epoch"] for kind, data in lease.events if kind == "epoch"] == [1]
    assert lease.ensured >= 2, "it asks before it puts files in place"


@pytest.mark.parametrize(
    ("reason", "expected"), [("cancel", JobCancelled), ("shutdown", JobReleased), ("lease_lost", RunStopped)]
)
def test_a_stop_becomes_the_jobs_own_and_saves_nothing_of_the_epoch(attempt, tmp_path, reason, expected):
    with pytest.raises(expected):
        run(attempt(FakeLease(reason)))
    assert not (tmp_path / "runs" / "job-1" / "checkpoints").exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.path='../elsewhere'", "leads outside"),
        ("data.path='/etc'", "leads outside"),
        ("data.path=nothing_here", "does not exist"),
        ("trainer.max_epoch=1", "trainer.max_epochs"),
    ],
)
def test_what_would_fail_again_is_refused(attempt, override, message):
    with pytest.raises(JobRefused, match=message):
        run(attempt(FakeLease(), override))


def test_a_split_file_stays_under_the_data_root_too(attempt):
    context = attempt(FakeLease())
    context.params.update(family="defects", overrides=["data.path=x", "data.split_file='../splits.json'"])
    with pytest.raises(JobRefused, match="leads outside"):
        run(context)
