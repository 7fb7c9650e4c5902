"""The thread that keeps a lease: what it does while the database is there, and while it is not."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from shared.jobs.lease import LeaseKeeper, LeaseObserver
from shared.jobs.problems import DatabaseUnavailable, LeaseLost
from shared.jobs.progress import progress_in
from shared.jobs.store import Claim, JobStore


class Outage:
    """A store that can be made to fail as one does whose database is away."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self.away = False

    def __getattr__(self, name: str) -> Callable[..., object]:
        method = getattr(self._store, name)

        def call(*args: object) -> object:
            if self.away:
                raise DatabaseUnavailable("away for the test")
            return method(*args)

        return call


class Counts:
    def __init__(self) -> None:
        self.renewed = self.failed = self.dropped = 0

    def observer(self) -> LeaseObserver:
        def add(name: str) -> Callable[[], None]:
            return lambda: setattr(self, name, getattr(self, name) + 1)

        return LeaseObserver(add("renewed"), add("failed"), add("dropped"))


@contextmanager
def keeping(
    store: JobStore | Outage, claim: Claim, counts: Counts, shutdown: threading.Event | None = None
) -> Iterator[LeaseKeeper]:
    keeper = LeaseKeeper(
        store,  # type: ignore[arg-type]
        claim,
        claimed_at=time.monotonic(),
        renew_every_s=claim.lease_s / 3,
        poll_s=0.02,
        shutdown=shutdown or threading.Event(),
        observer=counts.observer(),
    )
    keeper.start()
    yield keeper
    keeper.stop(timeout_s=5)


@pytest.fixture
def claim(store: JobStore) -> Claim:
    claim = store.claim(store.submit("train", {})[0].id, "w", 0.6)
    assert claim is not None
    return claim


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_kept_lease_outlives_its_length(store: JobStore, claim: Claim) -> None:
    counts = Counts()
    with keeping(store, claim, counts) as keeper:
        time.sleep(1.0)
        assert keeper.stop_requested() is None
        assert store.reconcile() == []
    assert counts.renewed >= 2


def test_a_cancellation_and_a_shutdown_reach_the_runner(store: JobStore, claim: Claim) -> None:
    shutdown = threading.Event()
    with keeping(store, claim, Counts(), shutdown) as keeper:
        shutdown.set()
        assert keeper.stop_requested() == "shutdown"
        store.cancel(claim.job.id)
        wait_for(lambda: keeper.stop_requested() == "cancel")


def test_a_lease_taken_away_is_noticed(store: JobStore, claim: Claim) -> None:
    with keeping(store, claim, Counts()) as keeper:
        store.release(claim)
        wait_for(lambda: keeper.stop_requested() == "lease_lost")
        with pytest.raises(LeaseLost):
            keeper.ensure()


def test_without_the_database_a_lease_ends_by_the_workers_own_clock(store: JobStore, claim: Claim) -> None:
    outage, counts = Outage(store), Counts()
    with keeping(outage, claim, counts) as keeper:
        outage.away = True
        assert keeper.stop_requested() is None
        wait_for(lambda: keeper.stop_requested() == "lease_lost")
    assert counts.failed > 0


def test_events_of_an_outage_arrive_in_order_afterwards(store: JobStore, claim: Claim) -> None:
    outage = Outage(store)
    with keeping(outage, claim, Counts()) as keeper:
        outage.away = True
        for step in range(500):
            keeper.report("step", {"step": step, "progress": step / 1000})
        time.sleep(0.1)
        outage.away = False
        wait_for(lambda: store.get(claim.job.id).progress == 0.499)
    steps = [event.data["step"] for event in store.events(claim.job.id) if event.type == "step"]
    assert steps == list(range(400, 500))  # the newest 100 are kept in these tests


def test_waiting_events_are_bounded_and_the_drops_counted(store: JobStore, claim: Claim) -> None:
    outage, counts = Outage(store), Counts()
    outage.away = True
    with keeping(outage, claim, counts) as keeper:
        for step in range(1200):
            keeper.report("step", {"step": step})
    assert counts.dropped == 200


@pytest.mark.parametrize(
    ("data", "progress"),
    [
        ({"progress": 0.25}, 0.25),
        ({"epoch": 3, "max_epochs": 12}, 0.25),
        ({"progress": 1.5}, 1.0),
        ({"progress": -1}, 0.0),
        ({"loss": 0.1}, None),
    ],
)
def test_progress_is_read_from_events(data: dict[str, float], progress: float | None) -> None:
    assert progress_in(data) == progress
