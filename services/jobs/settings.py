"""Settings of the jobs service, from `SIGHTLINE_JOBS_…`. Durations are in seconds."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class JobsServiceSettings(BaseSettings):
    """Where the service listens and what it bounds."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_JOBS_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8101, ge=0, le=65535, description="Port to listen on.")
    drain_s: float = Field(10.0, gt=0, description="Time for requests in flight after SIGTERM.")
    max_body_bytes: int = Field(1_000_000, gt=0, description="Largest request body.")
    max_watchers: int = Field(64, ge=1, description="Event streams open at the same time.")
    watch_poll_s: float = Field(0.25, gt=0, description="How often a stream looks for new events.")
    watch_heartbeat_s: float = Field(10.0, gt=0, description="Longest silence of a stream.")
