"""Keys of a run that mean something to some tasks only."""

from collections.abc import Mapping
from types import MappingProxyType

from shared.config.schema import RunConfig

_LABELS = ("classification",)
_PICTURES = ("detection", "classification")
_STREAMS = ("stream_detection",)

# By section and key: the tasks that it is for.
TASK_KEYS: Mapping[tuple[str, str], tuple[str, ...]] = MappingProxyType(
    {
        **{("data", key): _LABELS for key in ("window", "repeat_rare", "split_file", "ratios")},
        **{("data", key): _STREAMS for key in ("sampling", "clip_length")},
        **{
            ("augmentation", key): _PICTURES
            for key in (
                *("vertical_flip", "shift", "brightness_contrast", "gamma", "clahe"),
                *("motion_blur", "gaussian_noise"),
            )
        },
        **{
            ("augmentation", key): _STREAMS
            for key in ("zoom_in", "zoom_out", "zoom_out_streamed", "suppress_polarity", "event_noise")
        },
    }
)


def keys_without_effect(config: RunConfig, task: str) -> list[str]:
    """Return one line per key that is set, although runs of `task` do not ask for it."""
    problems = []
    for (section, key), tasks in TASK_KEYS.items():
        values = getattr(config, section)
        value = getattr(values, key)
        default = type(values).model_fields[key].default
        if task not in tasks and value != default:
            problems.append(
                f"{section}.{key}={value!r} has no effect in {task}, it is for {' and '.join(tasks)}; "
                f"leave it at {'null' if default is None else default}"
            )
    return problems
