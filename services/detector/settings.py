"""The detector's settings, read from `SIGHTLINE_DETECTOR_…` environment variables."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

_CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Return how many cores this process may use: its affinity, and the container's quota rounded up."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_CPU_MAX.read_text().split()
    except (OSError, ValueError):  # no cgroup v2 here: the affinity is all there is to know
        return cores
    return cores if quota == "max" else max(1, min(cores, -(-int(quota) // int(period))))


def tuned_file() -> Path:
    """Return where `sightline bench tune` writes settings: detector.env in SIGHTLINE_VAR_DIR."""
    return Path(os.environ.get("SIGHTLINE_VAR_DIR") or "var").expanduser().absolute() / "detector.env"


class DetectorSettings(BaseSettings):
    """Where the detector listens, how it runs models and what it accepts."""

    model_config = SettingsConfigDict(env_prefix="SIGHTLINE_DETECTOR_", extra="ignore")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8100, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

    provider: Literal["cpu", "cuda", "tensorrt"] = Field(
        "cpu", description="ONNX Runtime execution provider to run on."
    )
    allow_provider_fallback: bool = Field(
        False, description="Be ready although a session runs on another provider than the one asked for."
    )
    intra_op_threads: int | None = Field(
        None,
        ge=1,
        description="Threads of one session run. "
        "Default: on a CPU every core for a request that is alone and one for each otherwise.",
    )
    inter_op_threads: int = Field(
        1, ge=1, description="Threads that run independent branches of a graph side by side."
    )
    cuda_graphs: bool = Field(
        False, description="Run each batch size as a CUDA graph; the whole graph has to run on the GPU."
    )
    tensorrt_cache: Path | None = Field(
        None,
        description="Folder where TensorRT keeps its engines between starts. Default: it builds them anew.",
    )
    instances: int | None = Field(
        None,
        ge=1,
        description="Threads per loaded version that take pictures from its queue. "
        "Default: cores / intra-op threads (1 where that is not set) on a CPU, 2 on a GPU.",
    )
    max_batch: int | None = Field(
        None,
        ge=1,
        description="Most pictures in one session run. Default: 1 on a CPU, where batching gains nothing, "
        "max_batch_size of config.pbtxt on a GPU.",
    )
    max_delay_ms: float | None = Field(
        None,
        ge=0,
        description="Longest wait for a batch to fill. "
        "Default: max_queue_delay_microseconds of config.pbtxt.",
    )
    decode_threads: int | None = Field(
        None, ge=1, description="Threads that decode the pictures of one batch. Default: the cores."
    )

    queue_size: int = Field(
        128, ge=1, description="Pictures that may wait per loaded version; more are refused with 429."
    )
    queue_s: float = Field(
        1.5,
        gt=0,
        description="Longest wait in the queue to foresee, in seconds, by the measured pace; where a request "
        "would wait longer it is refused with 429.",
    )
    deadline_s: float = Field(10.0, gt=0, description="Longest wait in the queue before 504, in seconds.")
    compute_timeout_s: float = Field(
        30.0, gt=0, description="Longest wait for a picture that has left the queue before 504, in seconds."
    )
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="Largest request body, in bytes.")
    max_held_bytes: int = Field(
        256 * 2**20,
        ge=1,
        description="Bytes of request bodies held at once, arriving or waiting; more are refused with 429.",
    )
    body_timeout_s: float = Field(
        30.0, gt=0, description="Longest wait for a body to arrive before 408, in seconds."
    )
    max_pixels: int = Field(
        50_000_000, ge=1, description="Largest picture, width × height; read from its header before decoding."
    )
    max_batch_images: int = Field(16, ge=1, description="Most pictures in one request to the batch endpoint.")
    max_streams: int = Field(
        64, ge=1, description="Most streams open at once, over all models; more are refused with 429."
    )
    stream_idle_s: float = Field(
        60.0, gt=0, description="A stream to which nothing comes for so long is ended, in seconds."
    )
    stream_max_windows: int = Field(
        200, ge=1, description="Most windows that one chunk of a stream may complete."
    )
    stream_max_window_events: int = Field(
        1_000_000,
        ge=1,
        description="Most events in one window of a stream; what waits for the next chunk is no more.",
    )
    jpeg_quality: int = Field(90, ge=1, le=100, description="Quality of annotated pictures.")

    aliases: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["live"],
        min_length=1,
        description="Aliases whose versions are kept loaded, separated by commas. "
        "A request that names no version goes to the first.",
    )
    poll_interval_s: float = Field(
        0.5, gt=0, description="How often the repository is looked at for moved aliases, in seconds."
    )
    retry_max_s: float = Field(
        60.0,
        gt=0,
        description="Longest wait before a version that failed to load is tried again, in seconds.",
    )
    drain_s: float = Field(
        20.0, gt=0, description="How long requests in flight may take to finish after SIGTERM, in seconds."
    )
    lame_duck_s: float = Field(
        0.0, ge=0, description="How long new requests are still taken after SIGTERM while /readyz says 503."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read the tuned file, too, beneath the environment."""
        return init_settings, env_settings, DotEnvSettingsSource(settings_cls, env_file=tuned_file())

    @field_validator("aliases", mode="before")
    @classmethod
    def _split_aliases(cls, value: object) -> object:
        if isinstance(value, str):
            return [alias for alias in (part.strip() for part in value.split(",")) if alias]
        return value

    @property
    def worker_threads(self) -> int:
        """`instances` with its default filled in."""
        if self.instances is not None:
            return self.instances
        # Two on a GPU: one batch is decoded while the other computes.
        return max(1, available_cores() // (self.intra_op_threads or 1)) if self.provider == "cpu" else 2

    @property
    def wide_threads(self) -> int | None:
        """Threads of the session for requests that are alone; None where one session serves all."""
        cores = available_cores()
        return cores if self.provider == "cpu" and self.intra_op_threads is None and cores > 1 else None
