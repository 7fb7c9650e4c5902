"""A version's statistics in the protocol's words (Triton's extension_statistics.md)."""

from services.detector.dataplane import statistics
from services.detector.dataplane.registry import LoadedVersion
from services.detector.oip.schemas import BatchStatistics, Duration, InferenceStatistics, ModelStatistics

_NO_CACHE = Duration(count=0, ns=0)


def model_statistics(loaded: LoadedVersion) -> ModelStatistics:
    """Return what a version has done since it was loaded."""
    now = loaded.statistics.snapshot()
    return ModelStatistics(
        name=loaded.name,
        version=str(loaded.version),
        last_inference=now.last_inference_ms,
        inference_count=now.inference_count,
        execution_count=now.execution_count,
        inference_stats=InferenceStatistics(
            success=_duration(now.success),
            fail=_duration(now.fail),
            queue=_duration(now.queue),
            compute_input=_duration(now.compute_input),
            compute_infer=_duration(now.compute_infer),
            compute_output=_duration(now.compute_output),
            cache_hit=_NO_CACHE,
            cache_miss=_NO_CACHE,
            cancel=_duration(now.cancel),
        ),
        batch_stats=[
            BatchStatistics(
                batch_size=size,
                compute_input=_duration(batch.compute_input),
                compute_infer=_duration(batch.compute_infer),
                compute_output=_duration(batch.compute_output),
            )
            for size, batch in now.batch_stats.items()
        ],
    )


def _duration(duration: statistics.Duration) -> Duration:
    return Duration(count=duration.count, ns=duration.ns)
