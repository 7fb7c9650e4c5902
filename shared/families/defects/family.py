"""The defects family put together."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.families.defects.config import TASK, DefectsConfig
from shared.families.defects.network import build
from shared.families.family import ClassificationFamily
from shared.losses.registry import LOSSES


def _decode(config: DefectsConfig, logits: Tensor) -> Tensor:
    return torch.sigmoid(logits)


def _build_loss(config: DefectsConfig, class_counts: NDArray[np.int64], images: int) -> nn.Module:
    if len(class_counts) != len(config.class_names):
        raise ValueError(
            f"{len(class_counts)} class counts came for the {len(config.class_names)} classes"
            f" {', '.join(config.class_names)}"
        )
    loss: nn.Module = LOSSES.load(config.loss, TASK)(config, class_counts, images)
    return loss


def _class_names(config: DefectsConfig) -> list[str]:
    return list(config.class_names)


def _input_size(config: DefectsConfig) -> tuple[int, int]:
    return config.height, config.width


DEFECTS = ClassificationFamily(
    name="defects",
    task=TASK,
    config=DefectsConfig,
    build=build,
    decode=_decode,
    class_names=_class_names,
    input_size=_input_size,
    build_loss=_build_loss,
)
