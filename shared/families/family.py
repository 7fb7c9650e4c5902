"""What a family of models gives to the engine that trains it and to the export that ships it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Family:
    """A family as plain functions of its own config; nothing here knows how it is trained or served.

    name, task: "person", "detection".
    config: frozen pydantic model that refuses unknown fields; its defaults are the reference model.
    build(config) -> network; network(images float [N, 3, H, W] RGB in 0..1) -> raw outputs.
    encode_targets(config, boxes, labels, image_size, ignored_boxes) -> targets: per picture float [n, 4]
        xyxy pixels of the network's input of (height, width), int64 [n], and float [m, 4] regions that are
        neither objects nor background; targets have `.to(device)`, `.box_count` and `.collisions`, the
        number of boxes for which there was no place.
    loss(config, outputs, targets) -> named weighted terms, and "loss", their sum, which is differentiated.
    decode(config, outputs) -> boxes float [N, K, 4] xyxy input pixels, scores [N, K] descending, labels
        int64 [N, K]; tensor operations only, so it becomes part of the exported graph.
    default_thresholds(config) -> score_threshold, iou_threshold, max_detections.
    class_names(config) -> what the labels are called, by label.
    """

    name: str
    task: str
    config: type[BaseModel]
    build: Callable[[Any], nn.Module]
    encode_targets: Callable[
        [Any, Sequence[Tensor], Sequence[Tensor], tuple[int, int], Sequence[Tensor]], Any
    ]
    loss: Callable[[Any, Any, Any], dict[str, Tensor]]
    decode: Callable[[Any, Any], tuple[Tensor, Tensor, Tensor]]
    default_thresholds: Callable[[Any], Mapping[str, float | int]]
    class_names: Callable[[Any], list[str]]
