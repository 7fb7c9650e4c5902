"""What becomes of a job by how its runner ends."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.core.settings import CommonSettings
from shared.jobs.context import JobContext, JobReleased, Runner
from shared.jobs.execution import Executor
from shared.jobs.lease import LeaseObserver
from shared.jobs.runners import Runners
from shared.jobs.schema import JobState
from shared.jobs.settings import QueueSettings
from shared.jobs.store import JobStore


@pytest.fixture
def shutdown() -> threading.Event:
    return threading.Event()


@pytest.fixture
def executor_of(store: JobStore, shutdown: threading.Event, tmp_path: Path) -> Callable[[Runner], Executor]:
    def build(runner: Runner) -> Executor:
        return Executor(
            store=store,
            runners=Runners({"steps": lambda: runner}),
            settings=CommonSettings(var_dir=tmp_path),
            queue=QueueSettings(retry_delay_s=0),
            worker_id="w",
            shutdown=shutdown,
            observer=LeaseObserver(lambda: None, lambda: None, lambda: None),
            started=lambda kind: None,
            ended=lambda kind, outcome: None,
        )

    return build


@pytest.mark.parametrize("ending", [JobReleased, SystemExit])
def test_an_attempt_that_ends_with_its_worker_does_not_count(
    store: JobStore,
    shutdown: threading.Event,
    executor_of: Callable[[Runner], Executor],
    ending: type[BaseException],
) -> None:
    def runner(context: JobContext) -> dict[str, object]:
        shutdown.set()
        raise ending

    job, _ = store.submit("steps", {})
    assert executor_of(runner).run(job.id) == "released"
    after = store.get(job.id)
    assert (after.state, after.attempt, after.error) == (JobState.QUEUED, 0, None)


def test_a_released_job_that_was_to_be_cancelled_is_cancelled_and_not_failed(
    store: JobStore, shutdown: threading.Event, executor_of: Callable[[Runner], Executor]
) -> None:
    def runner(context: JobContext) -> dict[str, object]:
        shutdown.set()
        store.cancel(context.job_id)
        deadline = time.monotonic() + 10
        while context.stop_requested() != "cancel":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise JobReleased

    job, _ = store.submit("steps", {})
    assert executor_of(runner).run(job.id) == "cancelled"
    after = store.get(job.id)
    assert (after.state, after.error) == (JobState.CANCELLED, None)


def test_a_runner_that_exits_fails_its_attempt_and_leaves_the_worker_alone(
    store: JobStore, executor_of: Callable[[Runner], Executor]
) -> None:
    def runner(context: JobContext) -> dict[str, object]:
        raise SystemExit("no such library")

    job, _ = store.submit("steps", {})
    executor = executor_of(runner)
    assert [executor.run(job.id) for _ in range(3)] == ["retried", "retried", "failed"]
    error = store.get(job.id).error
    assert error is not None
    assert (error["type"], error["message"]) == ("SystemExit", "no such library")
