"""The events family put together."""

from pathlib import Path

from torch import nn

from shared.families.events.checkpoint import load_rvt_checkpoint
from shared.families.events.config import TASK, EventsConfig
from shared.families.events.decode import candidates
from shared.families.events.loss import loss
from shared.families.events.network import RVT
from shared.families.family import StreamFamily, StreamInput
from shared.models.weights import LoadReport

MAX_DETECTIONS = 100


def _build(config: EventsConfig) -> nn.Module:
    return RVT(config)


def _default_thresholds(config: EventsConfig) -> dict[str, float | int]:
    return {
        "score_threshold": config.score_threshold,
        "iou_threshold": config.iou_threshold,
        "max_detections": min(MAX_DETECTIONS, config.top_k),
    }


def _class_names(config: EventsConfig) -> list[str]:
    return list(config.classes)


def _input_size(config: EventsConfig) -> tuple[int, int]:
    return config.sensor_size


def _stream_input(config: EventsConfig) -> StreamInput:
    return StreamInput(config.representation, config.bins, config.window_ms, config.halved)


def _load_weights(network: nn.Module, path: Path) -> LoadReport:
    return load_rvt_checkpoint(network, path, other_classes=True)


EVENTS = StreamFamily(
    name="events",
    task=TASK,
    config=EventsConfig,
    build=_build,
    decode=candidates,
    class_names=_class_names,
    input_size=_input_size,
    loss=loss,
    default_thresholds=_default_thresholds,
    stream_input=_stream_input,
    load_weights=_load_weights,
)
