"""How far a job is, by what its events say."""

from typing import Any


def progress_in(data: dict[str, Any]) -> float | None:
    """Return the progress (0..1) that an event's data tell of, None where they do not."""
    progress = data.get("progress")
    if progress is None and data.get("max_epochs"):
        progress = data.get("epoch", 0) / data["max_epochs"]
    return None if progress is None else min(1.0, max(0.0, float(progress)))
