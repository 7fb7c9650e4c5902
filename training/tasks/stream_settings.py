"""Whether preprocessed frames are what a stream network takes."""

from pathlib import Path
from typing import Any

from shared.data.events.clips.frame_set import FrameSet
from shared.families.family import StreamFamily


def require_same_input(frames: FrameSet, family: StreamFamily, model_config: Any, path: Path) -> None:
    """Raise ValueError, naming what to set, where the frames are not what the model takes."""
    settings, wanted = frames.settings, family.stream_input(model_config)
    differing = [
        f"model.{key}={value}"
        for key, value, own in (
            ("representation", settings.representation, wanted.representation),
            ("bins", settings.bins, wanted.bins),
            ("window_ms", settings.window_ms, wanted.window_ms),
            ("half", str(settings.half).lower(), str(wanted.halved).lower()),
        )
        if value != own
    ]
    height, width = settings.frame[1:]
    if (height, width) != tuple(family.input_size(model_config)):
        differing.append(f"model.sensor=custom model.height={height} model.width={width}")
    if not differing:
        return
    size = " x ".join(map(str, family.input_size(model_config)))
    raise ValueError(
        f"{path} was made otherwise than the model takes it ({wanted.representation} of {wanted.bins} bins, "
        f"windows of {wanted.window_ms} ms, {size} pixels{', halved' if wanted.halved else ''}); set "
        f"{' '.join(differing)}, or run `sightline data preprocess` again with other settings"
    )
