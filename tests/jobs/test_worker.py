"""Worker processes with a real Redis and a real database: what survives what."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.jobs.schema import JobState
from shared.jobs.settings import QueueSettings
from tests.conftest import RedisServer
from tests.jobs.worker_stack import Stack, wait_for

pytestmark = pytest.mark.redis


@pytest.fixture
def stack(tmp_path: Path, redis_url: str) -> Iterator[Stack]:
    stack = Stack(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", redis_url)
    yield stack
    stack.close()


@pytest.fixture
def stack_on_any_database(tmp_path: Path, database_url: str, redis_url: str) -> Iterator[Stack]:
    stack = Stack(tmp_path, database_url, redis_url)
    yield stack
    stack.close()


@pytest.fixture
def own_redis_stack(tmp_path: Path, redis_server: RedisServer) -> Iterator[Stack]:
    stack = Stack(tmp_path, f"sqlite:///{tmp_path / 'jobs.db'}", redis_server.url)
    yield stack
    stack.close()


def numbers(lines: list[str]) -> list[int]:
    return [int(line.split()[1]) for line in lines]


def test_several_deliveries_of_one_message_run_the_job_once(stack_on_any_database: Stack) -> None:
    stack = stack_on_any_database
    stack.start_worker()
    stack.start_worker()
    job_id = stack.submit(steps=10, step_s=0.05)
    for _ in range(5):
        stack.wake_ups.publish(job_id)
    job = stack.wait_for_end(job_id)
    wait_for(lambda: stack.wake_ups.waiting() == 0)
    assert (job.state, job.attempt, job.result) == (JobState.SUCCEEDED, 1, {"steps": 10, "attempt": 1})
    assert stack.steps_done(job_id) == [f"1 {step}" for step in range(10)]


def test_a_killed_workers_job_goes_on_from_its_checkpoint_on_another(stack_on_any_database: Stack) -> None:
    stack = stack_on_any_database
    first = stack.start_worker()
    job_id = stack.submit(steps=30, step_s=0.05)
    wait_for(lambda: len(stack.steps_done(job_id)) >= 5)
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=10)
    done_by_first = len(stack.steps_done(job_id))
    stack.start_worker()
    job = stack.wait_for_end(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    lines = stack.steps_done(job_id)
    assert numbers(lines) == list(range(30))  # every step once, none repeated
    assert [line.split()[0] for line in lines] == ["1"] * done_by_first + ["2"] * (30 - done_by_first)


def test_a_job_whose_workers_keep_dying_fails_with_its_reason(stack: Stack) -> None:
    job_id = stack.submit(steps=1000)
    for attempt in (1, 2, 3):
        worker = stack.start_worker()
        wait_for(lambda attempt=attempt: stack.store.get(job_id).attempt == attempt)  # type: ignore[misc]
        worker.kill()
        worker.wait(timeout=10)
    stack.start_worker()  # whose reconciler finds the last orphan
    job = stack.wait_for_end(job_id)
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert "attempt 3 of 3" in job.error["message"]


def test_sigterm_saves_releases_and_ends_with_zero(stack: Stack) -> None:
    worker = stack.start_worker()
    job_id = stack.submit(steps=40, step_s=0.05)
    wait_for(lambda: len(stack.steps_done(job_id)) >= 3)
    worker.terminate()
    assert worker.wait(timeout=10) == 0
    job = stack.store.get(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)  # the attempt does not count
    stack.start_worker()
    job = stack.wait_for_end(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)
    assert numbers(stack.steps_done(job_id)) == list(range(40))


def test_a_runner_that_does_not_listen_does_not_hold_up_the_end(stack: Stack) -> None:
    worker = stack.start_worker(SIGHTLINE_WORKER_SHUTDOWN_S="1")
    job_id = stack.submit(steps=1000, deaf=True)
    wait_for(lambda: len(stack.steps_done(job_id)) >= 1)
    worker.terminate()
    assert worker.wait(timeout=5) == 1


def test_an_idle_worker_ends_at_once(stack: Stack) -> None:
    worker = stack.start_worker()
    worker.terminate()
    assert worker.wait(timeout=5) == 0


def test_cancelling_takes_effect_within_a_second(stack: Stack) -> None:
    stack.start_worker()
    job_id = stack.submit(steps=1000, step_s=0.02)
    wait_for(lambda: len(stack.steps_done(job_id)) >= 3)
    asked = time.monotonic()
    stack.store.cancel(job_id)
    job = stack.wait_for_end(job_id)
    assert time.monotonic() - asked < 2  # polled every 0.1 s here; the rest is room for a busy machine
    assert job.state is JobState.CANCELLED
    assert len(stack.steps_done(job_id)) < 1000


def test_a_refused_job_fails_without_another_try(stack: Stack) -> None:
    worker = stack.start_worker()
    job = stack.wait_for_end(stack.submit(**{"steps": 1, "raise": "refused"}))
    assert (job.state, job.attempt) == (JobState.FAILED, 1)
    assert job.error == {"type": "JobRefused", "message": "no such data", "rows": 0}
    assert 'sightline_worker_jobs_total{kind="steps",outcome="failed"} 1.0' in stack.metrics(worker)


def test_an_error_is_tried_again_and_kept_with_its_place(stack: Stack) -> None:
    worker = stack.start_worker()
    job = stack.wait_for_end(stack.submit(**{"steps": 1, "raise": "error"}))
    assert (job.state, job.attempt) == (JobState.FAILED, 3)
    assert job.error is not None
    assert (job.error["type"], job.error["message"]) == ("ValueError", "boom")
    assert "in steps" in job.error["traceback"]
    assert 'sightline_worker_jobs_total{kind="steps",outcome="retried"} 2.0' in stack.metrics(worker)


def test_a_worker_that_lost_its_lease_writes_nothing_more(stack: Stack) -> None:
    """A worker is stopped for longer than its lease; on waking it must leave the job to the other."""
    first = stack.start_worker()
    job_id = stack.submit(steps=60, step_s=0.05)
    wait_for(lambda: len(stack.steps_done(job_id)) >= 3)
    first.send_signal(signal.SIGSTOP)
    try:
        second = stack.start_worker()
        wait_for(lambda: stack.store.get(job_id).attempt == 2)
    finally:
        first.send_signal(signal.SIGCONT)
    job = stack.wait_for_end(job_id)
    assert job.state is JobState.SUCCEEDED
    assert job.attempt >= 2
    assert numbers(stack.steps_done(job_id)) == list(range(60))
    wait_for(lambda: "sightline_worker_leases_lost_total 1.0" in stack.metrics(first))
    assert second.poll() is None


def test_redis_stopped_and_started_loses_no_job(own_redis_stack: Stack, redis_server: RedisServer) -> None:
    stack = own_redis_stack
    stack.start_worker()
    running = stack.submit(steps=40, step_s=0.05)
    waiting = stack.submit(steps=3)
    wait_for(lambda: len(stack.steps_done(running)) >= 3)
    redis_server.stop()
    submitted_meanwhile = stack.submit(steps=3)
    assert stack.wait_for_end(running).state is JobState.SUCCEEDED  # a running job needs no Redis
    redis_server.start()
    for job_id in (waiting, submitted_meanwhile):
        job = stack.wait_for_end(job_id)
        assert (job.state, job.attempt) == (JobState.SUCCEEDED, 1)


def test_an_idle_worker_finds_redis_again(own_redis_stack: Stack, redis_server: RedisServer) -> None:
    stack = own_redis_stack
    worker = stack.start_worker()
    redis_server.stop()
    wait_for(lambda: not stack.answers(stack.status_urls[worker.pid] + "/readyz"))
    redis_server.start()
    wait_for(lambda: stack.answers(stack.status_urls[worker.pid] + "/readyz"))
    assert stack.wait_for_end(stack.submit(steps=2)).state is JobState.SUCCEEDED


def test_a_lost_message_is_made_up_for(stack: Stack) -> None:
    job, _ = stack.store.submit("steps", {"steps": 1})  # and no wake-up at all
    stack.start_worker()
    assert stack.wait_for_end(job.id).state is JobState.SUCCEEDED


def test_heartbeat_default_is_a_third_of_the_lease() -> None:
    assert QueueSettings(lease_s=15).renew_every_s == 5
    with pytest.raises(ValueError, match="renewed before it ends"):
        QueueSettings(lease_s=5, heartbeat_s=5)
