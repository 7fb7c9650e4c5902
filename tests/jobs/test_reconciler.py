"""Wake-ups that were lost, that pile up, and that Redis does not take."""

import time

import pytest

from shared.jobs.broker import BrokerAway, WakeUps
from shared.jobs.reconciler import Reason, Reconciler
from shared.jobs.store import JobStore
from tests.conftest import RedisServer, free_port

pytestmark = pytest.mark.redis


def reconciler(store: JobStore, wake_ups: WakeUps, told: list[Reason]) -> Reconciler:
    return Reconciler(store, wake_ups, wake_up_after_s=0.0, count=told.append)


def test_a_lost_wake_up_is_sent_again_and_they_do_not_pile_up(store: JobStore, redis_url: str) -> None:
    wake_ups, told = WakeUps(redis_url), []
    for _ in range(3):
        store.submit("train", {})
    for _ in range(5):
        time.sleep(0.01)
        reconciler(store, wake_ups, told).run_once()
    assert wake_ups.waiting() == 3
    assert told == ["resent"] * 3


def test_nothing_is_sent_for_jobs_that_nobody_can_claim(store: JobStore, redis_url: str) -> None:
    told: list[Reason] = []
    claim = store.claim(store.submit("train", {})[0].id, "w", 30)
    assert claim is not None
    store.fail_attempt(claim, {"type": "E"}, delay_s=30)
    reconciler(store, WakeUps(redis_url), told).run_once()
    assert (told, WakeUps(redis_url).waiting()) == ([], 0)


def test_orphans_are_counted_by_what_became_of_them(store: JobStore, redis_url: str) -> None:
    told: list[Reason] = []
    requeued, cancelled = (store.submit("train", {})[0].id for _ in "12")
    for job_id in (requeued, cancelled):
        assert store.claim(job_id, "w", 0.05) is not None
    store.cancel(cancelled)
    time.sleep(0.1)
    reconciler(store, WakeUps(redis_url), told).run_once()
    assert sorted(told) == ["cancelled", "requeued", "resent"]


def test_a_wake_up_that_redis_did_not_take_is_sent_later(store: JobStore, redis_server: RedisServer) -> None:
    wake_ups, told = WakeUps(redis_server.url, timeout_s=1), []
    store.submit("train", {})
    redis_server.stop()
    reconciler(store, wake_ups, told).run_once()
    assert told == ["broker_away"]
    redis_server.start()
    reconciler(store, wake_ups, told).run_once()
    assert wake_ups.waiting() == 1


def test_messages_survive_a_restart_of_redis(redis_server: RedisServer) -> None:
    wake_ups = WakeUps(redis_server.url, timeout_s=1)
    wake_ups.publish("job")
    redis_server.stop()
    redis_server.start()
    assert wake_ups.waiting() == 1


def test_a_refused_connection_is_told_at_once_and_without_the_password() -> None:
    wake_ups = WakeUps(f"redis://:secret@127.0.0.1:{free_port()}/0", timeout_s=5)
    started = time.monotonic()
    with pytest.raises(BrokerAway) as caught:
        wake_ups.publish("job")
    assert time.monotonic() - started < 3
    assert "secret" not in str(caught.value)


def test_a_redis_that_hangs_is_given_up_after_twice_the_timeout() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        wake_ups = WakeUps(f"redis://127.0.0.1:{silent.getsockname()[1]}/0", timeout_s=0.5)
        started = time.monotonic()
        with pytest.raises(BrokerAway):
            wake_ups.publish("job")
        assert 0.5 <= time.monotonic() - started < 5
