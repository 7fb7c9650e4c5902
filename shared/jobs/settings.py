"""How the queue keeps time; the jobs service and every worker read the same values."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class QueueSettings(BaseSettings):
    """Leases, retries and the reconciler, from `SIGHTLINE_QUEUE_…`. Durations are in seconds."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_QUEUE_", extra="ignore")

    lease_s: float = Field(
        15.0, gt=0, description="A worker that has not been heard of for so long loses its job."
    )
    heartbeat_s: float | None = Field(
        None, gt=0, description="Time between renewals of a lease. Default: a third of the lease."
    )
    cancel_poll_s: float = Field(
        0.5, gt=0, description="How often a worker looks whether its job was cancelled or taken away."
    )
    reconcile_s: float = Field(5.0, gt=0, description="Time between two rounds of the reconciler.")
    wake_up_after_s: float = Field(
        30.0,
        gt=0,
        description="A job queued for so long gets a second wake-up if the queue looks short of one.",
    )
    max_attempts: int = Field(3, ge=1, description="Attempts before a job is failed for good.")
    retry_delay_s: float = Field(
        5.0, ge=0, description="Wait before the second attempt after an error; doubled for each further one."
    )
    retry_delay_max_s: float = Field(300.0, ge=0, description="Longest wait between two attempts.")
    max_events: int = Field(
        20_000, ge=100, description="Events kept per job; the oldest make room for new ones."
    )
    broker_timeout_s: float = Field(2.0, gt=0, description="Longest wait for Redis while publishing.")

    @model_validator(mode="after")
    def _heartbeat_within_lease(self) -> Self:
        if self.heartbeat_s is None:
            self.heartbeat_s = self.lease_s / 3
        if self.heartbeat_s >= self.lease_s:
            raise ValueError(
                f"heartbeat_s is {self.heartbeat_s:g} and lease_s {self.lease_s:g}: a lease has to be "
                "renewed before it ends, so give a heartbeat of at most a third of the lease"
            )
        return self

    @property
    def renew_every_s(self) -> float:
        """`heartbeat_s` with its default filled in."""
        return self.heartbeat_s or self.lease_s / 3

    def retry_delay(self, attempt: int) -> float:
        """Return the wait in seconds after attempt number `attempt` (from 1) ended in an error."""
        # The exponent is bounded first: 2.0**attempt overflows for an absurd number of attempts.
        return min(self.retry_delay_max_s, self.retry_delay_s * 2.0 ** min(attempt - 1, 30))
