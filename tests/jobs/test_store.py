"""The job table on every database: transitions, leases, fencing, idempotency, events."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.jobs.problems import IdempotencyConflict, InvalidCursor, LeaseLost, UnknownJob, WrongJobState
from shared.jobs.schema import JobState
from shared.jobs.store import Claim, JobStore, PendingEvent

LEASE_S = 30.0
WRITES: dict[str, Callable[[JobStore, Claim], object]] = {
    "heartbeat": lambda store, claim: store.heartbeat(claim),
    "poll": lambda store, claim: store.poll(claim),
    "event": lambda store, claim: store.append_event(claim, "log", {"message": "late"}),
    "finish": lambda store, claim: store.finish(claim, JobState.SUCCEEDED, result={"late": True}),
    "fail": lambda store, claim: store.fail_attempt(claim, {"type": "Late"}, 0.0),
    "release": lambda store, claim: store.release(claim),
}


def submitted(store: JobStore, **params: object) -> str:
    return store.submit("train", params)[0].id


def claimed(store: JobStore, job_id: str, worker: str = "w1", lease_s: float = LEASE_S) -> Claim:
    claim = store.claim(job_id, worker, lease_s)
    assert claim is not None
    return claim


def lose_lease(store: JobStore, job_id: str) -> Claim:
    """Claim with a lease that has ended when this returns."""
    claim = claimed(store, job_id, "lost", lease_s=0.01)
    time.sleep(0.03)
    return claim


def at_once(threads: int, function: Callable[[int], object]) -> list[object]:
    """Call `function(number)` from so many threads at the same moment; return what came of each."""
    barrier = threading.Barrier(threads)

    def call(number: int) -> object:
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(call, range(threads)))


def test_a_submitted_job_is_queued_with_its_params(store: JobStore) -> None:
    job, created = store.submit("train", {"family": "person", "overrides": ["a=1"]}, group="sweep-1")
    assert created
    assert store.get(job.id) == job
    assert (job.state, job.attempt, job.group) == (JobState.QUEUED, 0, "sweep-1")
    assert job.params == {"family": "person", "overrides": ["a=1"]}


def test_an_unknown_job_is_a_problem(store: JobStore) -> None:
    with pytest.raises(UnknownJob, match="train-0"):
        store.get("train-0")


def test_one_idempotency_key_makes_one_job_however_many_ask(store: JobStore) -> None:
    results = at_once(8, lambda _: store.submit("train", {"a": 1, "b": [2]}, idempotency_key="k"))
    assert len({job.id for job, _ in results}) == 1  # type: ignore[misc]
    assert sum(created for _, created in results) == 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "params", "group"),
    [("train", {"a": 2}, None), ("export", {"a": 1}, None), ("train", {"a": 1}, "g")],
)
def test_an_idempotency_key_with_another_body_is_a_conflict(
    store: JobStore, kind: str, params: dict[str, int], group: str | None
) -> None:
    job, _ = store.submit("train", {"a": 1}, idempotency_key="k")
    with pytest.raises(IdempotencyConflict, match=job.id):
        store.submit(kind, params, idempotency_key="k", group=group)


def test_eight_simultaneous_claims_have_one_winner(store: JobStore) -> None:
    for _ in range(5):
        job_id = submitted(store)
        claims = at_once(8, lambda number, job_id=job_id: store.claim(job_id, f"w{number}", LEASE_S))  # type: ignore[misc]
        assert sum(claim is not None for claim in claims) == 1
        assert store.get(job_id).attempt == 1


def test_a_running_job_cannot_be_claimed_again(store: JobStore) -> None:
    job_id = submitted(store)
    claimed(store, job_id)
    assert store.claim(job_id, "w2", LEASE_S) is None


@pytest.mark.parametrize("write", WRITES)
def test_a_stale_token_changes_nothing(store: JobStore, write: str) -> None:
    job_id = submitted(store)
    stale = lose_lease(store, job_id)
    store.reconcile()
    current = claimed(store, job_id, "w2")
    before = (store.get(job_id), store.events(job_id))
    with pytest.raises(LeaseLost):
        WRITES[write](store, stale)
    assert (store.get(job_id), store.events(job_id)) == before
    assert current.token > stale.token
    store.finish(current, JobState.SUCCEEDED, result={"by": "w2"})
    assert store.get(job_id).result == {"by": "w2"}


@pytest.mark.parametrize("write", WRITES)
def test_nothing_can_be_written_to_a_job_that_is_over(store: JobStore, write: str) -> None:
    claim = claimed(store, submitted(store))
    store.finish(claim, JobState.SUCCEEDED, result={})
    with pytest.raises(LeaseLost):
        WRITES[write](store, claim)


def test_a_heartbeat_keeps_the_reconciler_away(store: JobStore) -> None:
    claim = claimed(store, submitted(store), lease_s=0.4)
    for _ in range(4):
        time.sleep(0.15)
        assert not store.heartbeat(claim).cancel_requested
        assert store.reconcile() == []
    time.sleep(0.45)
    assert [orphan.job_id for orphan in store.reconcile()] == [claim.job.id]


def test_an_orphan_is_taken_back_once(store: JobStore) -> None:
    job_id = submitted(store)
    lose_lease(store, job_id)
    taken = at_once(4, lambda _: store.reconcile())
    assert sum(len(orphans) for orphans in taken) == 1  # type: ignore[arg-type]
    assert store.get(job_id).state is JobState.QUEUED


def test_the_last_attempt_that_is_orphaned_fails_the_job_with_its_reason(store: JobStore) -> None:
    job_id = submitted(store)
    for _ in range(3):
        lose_lease(store, job_id)
        store.reconcile()
    job = store.get(job_id)
    assert (job.state, job.attempt) == (JobState.FAILED, 3)
    assert job.error is not None
    assert job.error["type"] == "LeaseExpired"
    assert "attempt 3 of 3" in job.error["message"]
    assert "lost" in job.error["message"]  # the worker's name
    assert store.claim(job_id, "w", LEASE_S) is None


def test_a_released_attempt_does_not_count(store: JobStore) -> None:
    job_id = submitted(store)
    for _ in range(5):
        store.release(claimed(store, job_id))
    job = store.get(job_id)
    assert (job.state, job.attempt) == (JobState.QUEUED, 0)


def test_failed_attempts_count_and_end_at_the_cap(store: JobStore) -> None:
    job_id = submitted(store)
    states = [
        store.fail_attempt(claimed(store, job_id), {"type": "E", "message": "m"}, 0.0).state for _ in "123"
    ]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED]
    assert store.get(job_id).error == {"type": "E", "message": "m"}


def test_a_failed_attempt_waits_before_the_next(store: JobStore) -> None:
    job_id = submitted(store)
    store.fail_attempt(claimed(store, job_id), {"type": "E"}, 0.3)
    assert store.claim(job_id, "w", LEASE_S) is None
    assert store.take_wake_ups(None) == []
    time.sleep(0.35)
    assert store.take_wake_ups(None) == [job_id]
    assert store.claim(job_id, "w", LEASE_S) is not None


def test_success_clears_the_error_of_an_attempt_before(store: JobStore) -> None:
    job_id = submitted(store)
    store.fail_attempt(claimed(store, job_id), {"type": "E"}, 0.0)
    store.finish(claimed(store, job_id), JobState.SUCCEEDED, result={"ap50": 0.9})
    job = store.get(job_id)
    assert (job.error, job.result, job.progress) == (None, {"ap50": 0.9}, 1.0)


def test_cancelling_a_queued_job_ends_it_at_once(store: JobStore) -> None:
    job_id = submitted(store)
    job = store.cancel(job_id)
    assert job.state is JobState.CANCELLED
    assert job.finished_at is not None
    assert store.claim(job_id, "w", LEASE_S) is None


def test_cancelling_a_running_job_asks_its_worker(store: JobStore) -> None:
    claim = claimed(store, submitted(store))
    assert not store.poll(claim).cancel_requested
    assert store.cancel(claim.job.id).state is JobState.RUNNING
    assert store.cancel(claim.job.id).state is JobState.RUNNING  # twice is no error
    assert store.poll(claim).cancel_requested
    assert store.heartbeat(claim).cancel_requested


@pytest.mark.parametrize("end", ["release", "fail", "orphan"])
def test_a_job_to_be_cancelled_does_not_run_again(store: JobStore, end: str) -> None:
    job_id = submitted(store)
    claim = claimed(store, job_id, lease_s=0.2)
    store.cancel(job_id)
    if end == "orphan":
        time.sleep(0.25)
        store.reconcile()
    else:
        WRITES[end](store, claim)
    assert store.get(job_id).state is JobState.CANCELLED


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_a_job_that_is_over_cannot_be_cancelled(store: JobStore, state: JobState) -> None:
    claim = claimed(store, submitted(store))
    store.finish(claim, state)
    with pytest.raises(WrongJobState, match=state.value):
        store.cancel(claim.job.id)


def test_a_retry_has_all_attempts_again(store: JobStore) -> None:
    job_id = submitted(store)
    first = claimed(store, job_id)
    store.finish(first, JobState.FAILED, error={"type": "E"})
    job = store.retry(job_id)
    assert (job.state, job.attempt, job.error, job.finished_at) == (JobState.QUEUED, 0, None, None)
    again = claimed(store, job_id)
    assert again.token > first.token  # the old worker stays locked out
    with pytest.raises(LeaseLost):
        store.heartbeat(first)


def test_a_cancelled_job_that_is_retried_is_no_longer_to_be_cancelled(store: JobStore) -> None:
    job_id = submitted(store)
    store.cancel(job_id)
    store.retry(job_id)
    assert not store.poll(claimed(store, job_id)).cancel_requested


def test_only_a_failed_or_cancelled_job_can_be_retried(store: JobStore) -> None:
    job_id = submitted(store)
    with pytest.raises(WrongJobState, match="queued"):
        store.retry(job_id)


def test_events_of_several_writers_are_numbered_without_gaps(store: JobStore) -> None:
    claim = claimed(store, submitted(store))

    def write(number: int) -> None:
        for step in range(5):
            store.append_events(claim, [PendingEvent("step", {"by": number, "step": step}, 0.0)] * 2)

    at_once(4, write)
    events = store.events(claim.job.id)
    assert [event.seq for event in events] == list(range(1, 43))  # submitted, claimed, 4 * 5 * 2 steps
    assert store.get(claim.job.id).last_event_id == 42
    for number in range(4):
        steps = [event.data["step"] for event in events if event.data.get("by") == number]
        assert steps == sorted(steps)


def test_events_after_a_number_are_the_later_ones(store: JobStore) -> None:
    claim = claimed(store, submitted(store))
    store.append_event(claim, "epoch", {"epoch": 1})
    assert [(event.seq, event.type) for event in store.events(claim.job.id, after_seq=2)] == [(3, "epoch")]


def test_old_events_make_room_for_new_ones(store: JobStore) -> None:
    claim = claimed(store, submitted(store))
    store.append_events(claim, [PendingEvent("step", {"step": step}, 0.0) for step in range(250)])
    events = store.events(claim.job.id)
    assert [event.seq for event in events] == list(range(153, 253))  # the newest 100 of 252


def test_progress_follows_the_events(store: JobStore) -> None:
    claim = claimed(store, submitted(store))
    store.append_events(claim, [PendingEvent("epoch", {}, 0.0, progress=0.25), PendingEvent("log", {}, 0.0)])
    assert store.get(claim.job.id).progress == 0.25


def test_numbers_that_json_does_not_know_become_null(store: JobStore) -> None:
    claim = claimed(store, submitted(store))
    store.append_event(claim, "epoch", {"loss": float("nan"), "peak": float("inf")})
    assert store.events(claim.job.id, after_seq=2)[0].data == {"loss": None, "peak": None}


def test_pages_hold_every_job_once_newest_first(store: JobStore) -> None:
    ids = [submitted(store, number=number) for number in range(7)]
    seen, cursor = [], None
    for _ in range(3):
        page = store.list_jobs(limit=3, cursor=cursor)
        seen += [job.id for job in page.jobs]
        cursor = page.next_cursor
    assert seen == ids[::-1]
    assert cursor is None


def test_a_list_can_be_narrowed(store: JobStore) -> None:
    kept, _ = store.submit("train", {}, group="sweep")
    store.submit("export", {}, group="sweep")
    store.submit("train", {})
    assert [job.id for job in store.list_jobs(kind="train", group="sweep").jobs] == [kept.id]
    assert store.list_jobs(state=JobState.RUNNING).jobs == []


@pytest.mark.parametrize("cursor", ["%%%", "YWJj", "é", "OTk5OTk5OTk5OTk5OTk5OTk5OTk", "LTE"])
def test_a_broken_cursor_is_a_problem(store: JobStore, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        store.list_jobs(cursor=cursor)


@pytest.mark.parametrize("job_id", ["\0", "train-\0", "train-1" * 100, "é"])
def test_an_id_that_no_job_can_have_is_unknown(store: JobStore, job_id: str) -> None:
    for call in (store.get, store.cancel, store.retry):
        with pytest.raises(UnknownJob):
            call(job_id)


def test_a_missing_wake_up_is_handed_to_one_sender(store: JobStore) -> None:
    ids = [submitted(store) for _ in range(6)]
    store.want_wake_ups(ids)
    taken = at_once(4, lambda _: store.take_wake_ups(None))
    assert sorted(job_id for part in taken for job_id in part) == sorted(ids)  # type: ignore[attr-defined]


def test_figures_count_every_state_and_the_longest_wait(store: JobStore) -> None:
    submitted(store)
    claimed(store, submitted(store))
    time.sleep(0.2)
    figures = store.figures()
    assert figures.by_state == {
        JobState.QUEUED: 1,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 0,
        JobState.FAILED: 0,
        JobState.CANCELLED: 0,
    }
    assert 0.2 <= figures.oldest_queued_s < 20
