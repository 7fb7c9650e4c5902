"""Where the time of a picture went, as every transport says it."""

from services.detector.dataplane.work import Timing


def server_timing(timing: Timing) -> str:
    """Return the stages as the value of the header of that name, in milliseconds."""
    return ", ".join(f"{name};dur={ms}" for name, ms in timing_ms(timing).items())


def timing_ms(timing: Timing) -> dict[str, float]:
    """Return the stages in milliseconds, to a microsecond."""
    return {
        "queue": round(timing.queue_s * 1000, 3),
        "preprocess": round(timing.preprocess_s * 1000, 3),
        "compute": round(timing.compute_s * 1000, 3),
        "postprocess": round(timing.postprocess_s * 1000, 3),
    }
