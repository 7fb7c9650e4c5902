"""The person family put together."""

from torch import nn

from shared.families.family import DetectionFamily
from shared.families.person.config import PersonConfig
from shared.families.person.decode import decode
from shared.families.person.loss import loss
from shared.families.person.network import PersonNetwork
from shared.families.person.targets import encode_targets

CLASS_NAMES = ("person",)
MAX_DETECTIONS = 100


def _build(config: PersonConfig) -> nn.Module:
    return PersonNetwork(config)


def _default_thresholds(config: PersonConfig) -> dict[str, float | int]:
    return {
        "score_threshold": config.score_threshold,
        "iou_threshold": config.iou_threshold,
        "max_detections": min(MAX_DETECTIONS, config.top_k),
    }


def _class_names(config: PersonConfig) -> list[str]:
    return list(CLASS_NAMES)


def _input_size(config: PersonConfig) -> tuple[int, int]:
    return config.image_size, config.image_size


PERSON = DetectionFamily(
    name="person",
    task="detection",
    config=PersonConfig,
    build=_build,
    encode_targets=encode_targets,
    loss=loss,
    decode=decode,
    default_thresholds=_default_thresholds,
    class_names=_class_names,
    input_size=_input_size,
)
