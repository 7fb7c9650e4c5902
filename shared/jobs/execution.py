"""From a wake-up to the end of an attempt: claim, run, and write down what came of it."""

import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from shared.core.logging import get_logger
from shared.core.settings import CommonSettings
from shared.jobs.context import JobCancelled, JobContext, JobRefused, JobReleased
from shared.jobs.lease import LeaseKeeper, LeaseObserver
from shared.jobs.problems import DatabaseUnavailable, LeaseLost
from shared.jobs.run_lock import hold_run_folder
from shared.jobs.runners import Runners
from shared.jobs.schema import JobState
from shared.jobs.settings import QueueSettings
from shared.jobs.store import Claim, JobStore

logger = get_logger(__name__)

# `skipped`: there was nothing to claim. `retried`: failed for now. `lost`: the job is another worker's.
Outcome = Literal["skipped", "succeeded", "failed", "retried", "cancelled", "released", "lost"]

_TRACEBACK_LINES = 20
_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True)
class Executor:
    """Runs jobs for one worker, one at a time. `started` and `ended` are told the kind, for metrics."""

    store: JobStore
    runners: Runners
    settings: CommonSettings
    queue: QueueSettings
    worker_id: str
    shutdown: threading.Event
    observer: LeaseObserver
    started: Callable[[str], None]
    ended: Callable[[str, Outcome], None]

    def run(self, job_id: str) -> Outcome:
        """Run the job if it can be claimed, to the end of this attempt. Raises DatabaseUnavailable."""
        if self.shutdown.is_set():
            self.store.want_wake_ups([job_id])
            return "skipped"
        claimed_at = time.monotonic()
        claim = self.store.claim(job_id, self.worker_id, self.queue.lease_s)
        if claim is None:
            logger.debug("nothing to claim", job_id=job_id)
            return "skipped"
        log = logger.bind(job_id=job_id, kind=claim.job.kind, attempt=claim.job.attempt)
        log.info("job started")
        self.started(claim.job.kind)
        outcome: Outcome = "lost"
        try:
            outcome = self._attempt(claim, claimed_at)
        finally:
            self.ended(claim.job.kind, outcome)
            log.info("job ended", outcome=outcome)
        return outcome

    def _attempt(self, claim: Claim, claimed_at: float) -> Outcome:
        keeper = LeaseKeeper(
            self.store,
            claim,
            claimed_at=claimed_at,
            renew_every_s=self.queue.renew_every_s,
            poll_s=self.queue.cancel_poll_s,
            shutdown=self.shutdown,
            observer=self.observer,
        )
        keeper.start()
        try:
            ending = self._call_runner(claim, keeper)
        finally:
            keeper.stop(timeout_s=self.queue.lease_s)
        return "lost" if ending is None else self._record(keeper, ending)

    def _call_runner(self, claim: Claim, keeper: LeaseKeeper) -> Callable[[], Outcome] | None:
        """Return what is to be written down about this attempt, None where the job is no longer ours."""
        assert self.settings.runs_root is not None
        try:
            runner = self.runners.find(claim.job.kind)
            with hold_run_folder(
                self.settings.runs_root,
                claim.job.id,
                claim.token,
                self.worker_id,
                timeout_s=self.queue.lease_s,
                give_up=lambda: keeper.is_lost,
            ) as lock:
                keeper.lock = lock
                result = runner(self._context(claim, keeper))
        # SystemExit: Lightning leaves its loop by one when SIGTERM comes between two looks of the runner.
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it raises is the job's ending
            if keeper.is_lost or isinstance(error, LeaseLost):
                logger.warning("attempt abandoned", job_id=claim.job.id, error=repr(error))
                return None
            return self._after_error(claim, error)
        return lambda: self._succeeded(claim, result)

    def _context(self, claim: Claim, keeper: LeaseKeeper) -> JobContext:
        job, runs_root = claim.job, self.settings.runs_root
        assert runs_root is not None
        return JobContext(
            job.id, job.kind, job.params, job.attempt, runs_root / job.id, self.settings, keeper
        )

    def _after_error(self, claim: Claim, error: Exception | SystemExit) -> Callable[[], Outcome]:
        match error:
            case JobCancelled():
                return lambda: self._finished(claim, JobState.CANCELLED, None)
            case JobReleased() | SystemExit() if self.shutdown.is_set():
                return lambda: self._released(claim)
            case JobRefused():
                refusal = {"type": "JobRefused", "message": error.detail, **error.numbers}
                return lambda: self._finished(claim, JobState.FAILED, refusal)
            case _:
                logger.error("attempt failed", job_id=claim.job.id, exc_info=error)
                return lambda: self._failed(claim, describe(error))

    def _record(self, keeper: LeaseKeeper, ending: Callable[[], Outcome]) -> Outcome:
        """Write down the end of the attempt, patiently: hours of work may hang on it.

        A database that stays away for four leases loses the attempt; the job goes on from what it saved.
        """
        deadline = time.monotonic() + 4 * self.queue.lease_s
        while True:
            try:
                keeper.flush()
                return ending()
            except LeaseLost as error:
                logger.warning("attempt came too late", error=str(error))
                return "lost"
            except DatabaseUnavailable:
                if time.monotonic() > deadline:
                    logger.exception("attempt not written down")
                    return "lost"
                time.sleep(min(1.0, self.queue.lease_s / 10))

    def _succeeded(self, claim: Claim, result: dict[str, Any]) -> Outcome:
        self.store.finish(claim, JobState.SUCCEEDED, result=result)
        return "succeeded"

    def _finished(self, claim: Claim, state: JobState, error: dict[str, Any] | None) -> Outcome:
        self.store.finish(claim, state, error=error)
        return "cancelled" if state is JobState.CANCELLED else "failed"

    def _released(self, claim: Claim) -> Outcome:
        job = self.store.release(claim)
        return "cancelled" if job.state is JobState.CANCELLED else "released"

    def _failed(self, claim: Claim, error: dict[str, Any]) -> Outcome:
        job = self.store.fail_attempt(claim, error, self.queue.retry_delay(claim.job.attempt))
        outcomes: dict[JobState, Outcome] = {JobState.QUEUED: "retried", JobState.CANCELLED: "cancelled"}
        return outcomes.get(job.state, "failed")


def describe(error: BaseException) -> dict[str, Any]:
    """Return what the job's row keeps of an error: type, message and the end of the traceback."""
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()
    return {
        "type": type(error).__name__,
        "message": str(error)[:_MESSAGE_CHARACTERS] or repr(error)[:_MESSAGE_CHARACTERS],
        "traceback": "\n".join(lines[-_TRACEBACK_LINES:]),
    }
