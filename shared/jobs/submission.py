"""How a service puts a job into the table and tells the workers: checked, stored, then announced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.core.logging import get_logger
from shared.core.settings import CommonSettings
from shared.jobs.broker import BrokerAway, WakeUps
from shared.jobs.params import JOB_PARAMS, JobParams, checked_params
from shared.jobs.problems import DatabaseUnavailable
from shared.jobs.schema import Job
from shared.jobs.store import JobStore

logger = get_logger(__name__)


@dataclass(frozen=True)
class Submitter:
    """Submits and retries jobs; `count_wake_up` hears how each wake-up went."""

    store: JobStore
    wake_ups: WakeUps
    settings: CommonSettings
    count_wake_up: Callable[[Literal["published", "failed"]], None]
    params_models: Mapping[str, type[JobParams]] = field(default_factory=lambda: JOB_PARAMS)

    def submit(
        self,
        kind: str,
        params: dict[str, Any],
        idempotency_key: str | None = None,
        group: str | None = None,
    ) -> tuple[Job, bool]:
        """Return the job and whether it is new. It is accepted even while Redis is away.

        Raises InvalidParams, IdempotencyConflict, DatabaseUnavailable.
        """
        checked = checked_params(kind, params, self.settings, self.params_models)
        job, created = self.store.submit(kind, checked, idempotency_key, group)
        if created:
            logger.info("job submitted", job_id=job.id, kind=kind)
            self._wake(job)
        return job, created

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again. Raises UnknownJob, WrongJobState, DatabaseUnavailable."""
        job = self.store.retry(job_id)
        self._wake(job)
        return job

    def _wake(self, job: Job) -> None:
        try:
            self.wake_ups.publish(job.id)
        except BrokerAway as error:
            self.count_wake_up("failed")
            logger.warning("wake-up not sent; the reconciler will", job_id=job.id, error=str(error))
            try:
                self.store.want_wake_ups([job.id])
            except DatabaseUnavailable:
                # The job is in the table, so the caller hears of success; its wake-up is only later.
                logger.warning("wake-up not noted; it is sent once it is overdue", job_id=job.id)
        else:
            self.count_wake_up("published")
