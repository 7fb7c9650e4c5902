"""Settings of the export service, from `SIGHTLINE_EXPORT_…`. Durations are in seconds."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ExportServiceSettings(BaseSettings):
    """Where the service listens and what it bounds."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_EXPORT_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8102, ge=0, le=65535, description="Port to listen on.")
    drain_s: float = Field(10.0, gt=0, description="Time for requests in flight after SIGTERM.")
    max_body_bytes: int = Field(100_000, gt=0, description="Largest request body.")
