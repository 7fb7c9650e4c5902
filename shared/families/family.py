"""What a family of models gives to the engine that trains it and to the export that ships it.

Families of one task share their class here; what is done with a task stands in `training/tasks`,
`services/export/tasks` and the detector's `dataplane/tasks`, one file for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from shared.models.weights import LoadReport


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family as plain functions of its own config; nothing here knows how it is trained or served.

    name, task: "person", "detection".
    config: frozen pydantic model that refuses unknown fields; its defaults are the reference model.
    build(config) -> network; network(images float [N, 3, H, W] RGB in 0..1) -> raw outputs.
    decode(config, outputs) -> answers, as its task says; tensor operations only, so it becomes part of the
        exported graph.
    class_names(config) -> what the labels are called, by label.
    input_size(config) -> (height, width) of the network's input in pixels.
    """

    name: str
    task: str
    config: type[BaseModel]
    build: Callable[[Any], nn.Module]
    decode: Callable[[Any, Any], Any]
    class_names: Callable[[Any], list[str]]
    input_size: Callable[[Any], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class DetectionFamily(Family):
    """Boxes with labels.

    decode(config, outputs) -> boxes float [N, K, 4] xyxy input pixels, scores [N, K] descending, labels
        int64 [N, K].
    encode_targets(config, boxes, labels, image_size, ignored_boxes) -> targets: per picture float [n, 4]
        xyxy pixels of the network's input of (height, width), int64 [n], and float [m, 4] regions that are
        neither objects nor background; targets have `.to(device)`, `.box_count` and `.collisions`, the
        number of boxes for which there was no place.
    loss(config, outputs, targets) -> named weighted terms, and "loss", their sum, which is differentiated.
    default_thresholds(config) -> score_threshold, iou_threshold, max_detections.
    """

    encode_targets: Callable[
        [Any, Sequence[Tensor], Sequence[Tensor], tuple[int, int], Sequence[Tensor]], Any
    ]
    loss: Callable[[Any, Any, Any], dict[str, Tensor]]
    default_thresholds: Callable[[Any], Mapping[str, float | int]]


@dataclass(frozen=True, kw_only=True)
class ClassificationFamily(Family):
    """Any number of labels for a whole picture, each with a probability of its own.

    build(config) -> network(images) -> logits [N, C]; also network.features(images) -> [N, D, h, w],
        network.classify(features) -> logits, and network.activation_maps(features) -> float [N, C, h, w],
        whose mean over h and w is the logits.
    decode(config, logits) -> probabilities [N, C] in 0..1.
    build_loss(config, class_counts, images) -> module; class_counts int64 [C] are the training pictures that
        hold each class, of `images` in all. module(logits [N, C], labels float [N, C]) -> named terms, and
        "loss", their sum; what it computes from the counts are buffers, so that a checkpoint holds them.
    """

    build_loss: Callable[[Any, NDArray[np.int64], int], nn.Module]


@dataclass(frozen=True)
class StreamInput:
    """How a recording becomes what a stream network takes: windows of `window_ms` as `representation`.

    representation: a name in shared.vision.event_stacks.REPRESENTATIONS, of `bins` time bins. halved: whether
    only the odd rows and columns of the sensor are kept.
    """

    representation: str
    bins: int
    window_ms: int
    halved: bool


@dataclass(frozen=True, kw_only=True)
class StreamFamily(Family):
    """Boxes in every window of a stream, by a network that remembers the windows before.

    build(config) -> network. network.step(histograms [N, channels, H, W], states) -> decoded
        [N, cells, 5 + C], states; states None begins a stream, otherwise one (h, c) per stage. For training
        network.recur_clip gives the features and states of a clip [L, N, channels, H, W], network.recur of
        one step, network.detect(features) the outputs, and network.cells(outputs) what `step` decodes them
        to.
    decode(config, decoded) -> finite boxes float [N, K, 4] xyxy pixels, scores [N, K] descending, labels
        int64 [N, K], class probabilities [N, K].
    loss(config, outputs, targets) -> named weighted terms, and "loss", their sum, which is differentiated.
    default_thresholds(config) -> score_threshold, iou_threshold, max_detections.
    stream_input(config) -> how windows of events are made into histograms.
    load_weights(network, file) -> what went where; the file may be of other classes. Raises ValueError and
        OSError for one that does not fit.
    input_size is the histograms' (height, width); the network pads.
    """

    loss: Callable[[Any, Any, Any], dict[str, Tensor]]
    default_thresholds: Callable[[Any], Mapping[str, float | int]]
    stream_input: Callable[[Any], StreamInput]
    load_weights: Callable[[nn.Module, Path], LoadReport]
