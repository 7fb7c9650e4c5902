"""What the runs of each task can be judged by, and which way it improves."""

from collections.abc import Mapping
from types import MappingProxyType

from shared.config.errors import nearest
from shared.config.schema import RunConfig

# By task, then by number: whether more is better.
MONITORS: Mapping[str, Mapping[str, bool]] = MappingProxyType(
    {
        "detection": MappingProxyType({"ap": True, "ap50": True, "val_loss": False}),
        "stream_detection": MappingProxyType({"ap": True, "ap50": True, "val_loss": False}),
        "classification": MappingProxyType({"macro_f1": True, "map": True, "val_loss": False}),
    }
)


def wrong_monitors(config: RunConfig, task: str) -> list[str]:
    """Return one line per monitor of `config` that a run of `task` does not have."""
    there = MONITORS[task]
    problems = []
    for key, monitor in (
        ("trainer.monitor", config.trainer.monitor),
        ("schedule.monitor", config.schedule.monitor),
    ):
        if monitor not in there:
            meant = nearest(monitor, there)
            question = f" Did you mean {meant!r}?" if meant else ""
            problems.append(
                f"{key}={monitor!r} is not measured in {task}.{question} There are: {', '.join(there)}."
            )
    return problems
