"""Settings that every part shares, read from `SIGHTLINE_…` environment variables in this one place."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


class CommonSettings(BaseSettings):
    """Where things lie and who may call. Paths come back absolute; unset ones follow `var_dir`."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_", extra="ignore", validate_default=True)

    var_dir: Path = Field(Path("var"), description="Folder for everything that Sightline writes.")
    data_root: Path | None = Field(
        None, description="Data sets that jobs may read lie under it. Default: <var_dir>/data."
    )
    runs_root: Path | None = Field(None, description="Run folders. Default: <var_dir>/runs.")
    repository_root: Path | None = Field(None, description="Model repository. Default: <var_dir>/repository.")
    database_url: str = Field(
        "", description="Job database: sqlite:///… or postgresql://…. Default: <var_dir>/sightline.db."
    )
    redis_url: str = Field(
        "", description="Broker: redis://…. Default: the server that `sightline up` starts on this machine."
    )
    embedded_redis_port: int = Field(6380, ge=1, le=65535, description="Port of that server, on 127.0.0.1.")
    mlflow_uri: str | None = Field(
        None, description="MLflow tracking address; empty turns tracking off. Default: <var_dir>/mlflow.db."
    )
    api_keys: Annotated[list[SecretStr], NoDecode] = Field(
        default_factory=list, description="Keys that callers of /v1 may use, separated by commas."
    )
    allow_unauthenticated: bool = Field(
        False, description="Allow a service to listen beyond loopback without any key."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="`auto` is readable on a terminal and JSON elsewhere."
    )
    detector_url: str = Field("http://127.0.0.1:8100", description="Where clients find the detector.")
    jobs_url: str = Field("http://127.0.0.1:8101", description="Where clients find the jobs service.")
    export_url: str = Field("http://127.0.0.1:8102", description="Where clients find the export service.")
    worker_url: str = Field(
        "http://127.0.0.1:8103", description="Where the worker of `sightline up` reports."
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        if isinstance(value, str):
            return [key for key in (part.strip() for part in value.split(",")) if key]
        return value

    @model_validator(mode="after")
    def _fill_paths(self) -> Self:
        self.var_dir = self.var_dir.expanduser().absolute()
        self.data_root = (self.data_root or self.var_dir / "data").expanduser().absolute()
        self.runs_root = (self.runs_root or self.var_dir / "runs").expanduser().absolute()
        self.repository_root = (self.repository_root or self.var_dir / "repository").expanduser().absolute()
        if not self.database_url:
            self.database_url = f"sqlite:///{self.var_dir / 'sightline.db'}"
        if self.database_url.startswith(("postgresql://", "postgres://")):
            self.database_url = "postgresql+pg8000://" + self.database_url.split("://", 1)[1]
        if not self.redis_url:
            self.redis_url = f"redis://127.0.0.1:{self.embedded_redis_port}/0"
        if self.mlflow_uri is None:
            self.mlflow_uri = f"sqlite:///{self.var_dir / 'mlflow.db'}"
        return self

    @property
    def redis_is_embedded(self) -> bool:
        """Whether the broker's address is the one that `sightline up` serves itself."""
        return self.redis_url == f"redis://127.0.0.1:{self.embedded_redis_port}/0"
