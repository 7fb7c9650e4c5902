"""Puts right what messages and workers forget: orphaned jobs, lost wake-ups, retries that have become due.

Every service and every worker may run one: what it does are guarded updates, so two never do the same thing.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared.core.logging import get_logger
from shared.jobs.broker import BrokerAway, WakeUps
from shared.jobs.problems import DatabaseUnavailable
from shared.jobs.schema import JobState
from shared.jobs.store import JobStore

logger = get_logger(__name__)

# `requeued`, `failed` and `cancelled` are orphans; `resent` is a wake-up; the last two are what was away.
Reason = Literal["requeued", "failed", "cancelled", "resent", "broker_away", "database_away"]
_REASONS: dict[JobState, Reason] = {
    JobState.QUEUED: "requeued",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
}


@dataclass(frozen=True)
class Reconciler:
    """One round of reconciling; `count` is told the reason of everything done."""

    store: JobStore
    wake_ups: WakeUps
    wake_up_after_s: float
    count: Callable[[Reason], None]

    def run_once(self) -> None:
        """Take back orphans and send the wake-ups that are missing. Raises DatabaseUnavailable."""
        for orphan in self.store.reconcile():
            self.count(_REASONS[orphan.state])
            logger.warning(
                "job orphaned", job_id=orphan.job_id, worker=orphan.worker_id, state=orphan.state.value
            )
        try:
            self._send_missing()
        except BrokerAway as error:
            self.count("broker_away")
            logger.warning("wake-ups wait for the broker", error=str(error))

    def _send_missing(self) -> None:
        claimable = self.store.count_claimable()
        if claimable == 0:
            return
        # Old wake-ups are sent again only where the queue holds fewer than there are jobs to wake for.
        # Otherwise a worker that is busy for a day would find a day's worth of them.
        short = self.wake_ups.waiting() < claimable
        for job_id in self.store.take_wake_ups(self.wake_up_after_s if short else None):
            try:
                self.wake_ups.publish(job_id)
            except BrokerAway:
                self.store.want_wake_ups([job_id])
                raise
            self.count("resent")


class ReconcilerThread:
    """Runs a reconciler every `every_s` seconds until stopped; an outage costs rounds, never the thread."""

    def __init__(self, reconciler: Reconciler, every_s: float) -> None:
        self._reconciler = reconciler
        self._every_s = every_s
        self._stop = threading.Event()
        self.database_problem: str | None = None  # as the last round met it
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the thread to end and wait for the round it is in, at most `timeout_s`."""
        self._stop.set()
        self._thread.join(timeout_s)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._reconciler.run_once()
                self.database_problem = None
            except DatabaseUnavailable as error:
                self.database_problem = error.detail
                self._reconciler.count("database_away")
                logger.warning("reconciling waits for the database", error=error.detail)
            except Exception:
                # An error nobody thought of must not leave orphans where they are for ever.
                logger.exception("a round of reconciling failed")
