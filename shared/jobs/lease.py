"""Keeps a claim alive while a runner works: heartbeats, events, and the wish to stop."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.core.logging import get_logger
from shared.jobs.context import StopReason
from shared.jobs.problems import DatabaseUnavailable, LeaseLost
from shared.jobs.progress import progress_in
from shared.jobs.run_lock import RunLock
from shared.jobs.store import Claim, JobStore, PendingEvent
from shared.jobs.tables import MAX_EVENT_TYPE_CHARACTERS

logger = get_logger(__name__)

_MAX_PENDING = 1000  # events that wait while the database is away; the oldest make room
_BATCH = 200


@dataclass(frozen=True)
class LeaseObserver:
    """Hears how a lease is doing, for metrics."""

    renewed: Callable[[], None]
    heartbeat_failed: Callable[[], None]
    event_dropped: Callable[[], None]


class LeaseKeeper:
    """A thread that renews one claim, sends its events and learns of cancellation.

    The lease counts as lost when the table says so, and also by this process's own clock once it was not
    renewed for its whole length: from then on the table may give the job to another worker.
    """

    def __init__(
        self,
        store: JobStore,
        claim: Claim,
        *,
        claimed_at: float,  # time.monotonic() before the claim was made
        renew_every_s: float,
        poll_s: float,
        shutdown: threading.Event,
        observer: LeaseObserver,
    ) -> None:
        self._store = store
        self._claim = claim
        self._renew_every_s = renew_every_s
        self._poll_s = min(poll_s, renew_every_s)
        self._shutdown = shutdown
        self._observer = observer
        self._valid_until = claimed_at + claim.lease_s
        self._next_renewal = claimed_at + renew_every_s
        self._lost = False
        self._cancel = claim.job.cancel_requested
        self._pending: deque[PendingEvent] = deque()
        self._pending_lock = threading.Lock()
        self._flushing = threading.Lock()  # two batches at a time could arrive in the wrong order
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lease {claim.job.id}", daemon=True)
        self.lock: RunLock | None = None  # set once the run folder is held

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread, waiting at most `timeout_s` for a call to the database that hangs."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def stop_requested(self) -> StopReason | None:
        """Return the most pressing reason to stop, if any."""
        if self.is_lost:
            return "lease_lost"
        if self._cancel:
            return "cancel"
        return "shutdown" if self._shutdown.is_set() else None

    @property
    def is_lost(self) -> bool:
        return self._lost or time.monotonic() > self._valid_until

    def ensure(self) -> None:
        """Raise LeaseLost where someone else may own the job."""
        if self.is_lost:
            raise LeaseLost(f"the lease on job {self._claim.job.id} has ended")
        if self.lock is not None:
            self.lock.ensure()

    def report(self, type_: str, data: dict[str, Any]) -> None:
        """Queue an event; the thread sends it within `poll_s`."""
        if not 0 < len(type_) <= MAX_EVENT_TYPE_CHARACTERS:
            raise ValueError(f"{type_!r} is no type of event: 1 to {MAX_EVENT_TYPE_CHARACTERS} characters")
        event = PendingEvent(type_, data, datetime.now(UTC).timestamp(), progress_in(data))
        with self._pending_lock:
            if len(self._pending) >= _MAX_PENDING:
                self._pending.popleft()
                self._observer.event_dropped()
            self._pending.append(event)

    def flush(self) -> None:
        """Send the events that wait. Raises LeaseLost, DatabaseUnavailable (they go on waiting then)."""
        with self._flushing:
            while self._flush_batch():
                pass

    def _flush_batch(self) -> bool:
        with self._pending_lock:
            batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
        if not batch:
            return False
        try:
            self._store.append_events(self._claim, batch)
        except DatabaseUnavailable:
            with self._pending_lock:
                self._pending.extendleft(reversed(batch))
            raise
        return True

    def _run(self) -> None:
        while not self._stopping.wait(self._poll_s):
            try:
                self._look_after()
            except LeaseLost as error:
                self._lost = True
                logger.warning("lease lost", job_id=self._claim.job.id, error=str(error))
                return
            except DatabaseUnavailable as error:
                self._observer.heartbeat_failed()
                logger.warning("lease not renewed", job_id=self._claim.job.id, error=error.detail)
            except Exception:
                # Whatever it was, the lease ends by the clock if it goes on like this.
                self._observer.heartbeat_failed()
                logger.exception("lease not renewed", job_id=self._claim.job.id)

    def _look_after(self) -> None:
        before = time.monotonic()
        if before >= self._next_renewal:
            reply = self._store.heartbeat(self._claim)
            self._valid_until = before + self._claim.lease_s
            self._next_renewal = before + self._renew_every_s
            self._observer.renewed()
        else:
            reply = self._store.poll(self._claim)
        self._cancel = self._cancel or reply.cancel_requested
        self.flush()
