"""What a detector finds in labelled pictures, by COCO's metrics over candidates after NMS, and the loss."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from shared.data.dataset import DetectionRecord
from shared.families.family import DetectionFamily
from shared.metrics.coco import CANDIDATE_SCORE
from shared.metrics.detection import DetectionEvaluator
from shared.vision.boxes import Detections
from shared.vision.letterbox import Letterbox
from shared.vision.nms import nms
from training.network_input import as_float32, network_input
from training.tasks.task import Criterion, Evaluation

_SCALARS = (
    "ap",
    "ap50",
    "ap75",
    "ap_small",
    "ap_medium",
    "ap_large",
    "ar",
    "precision",
    "recall",
    "f1",
    "best_f1",
    "best_f1_threshold",
)


@dataclass
class EvaluationBatch:
    """images uint8 [N, H, W, 3] RGB, the records and letterboxes they came from, and targets for the loss."""

    images: Tensor
    records: list[DetectionRecord]
    letterboxes: list[Letterbox]
    targets: Any


@torch.no_grad()
def evaluate(
    family: DetectionFamily,
    model_config: Any,
    network: nn.Module,
    criterion: Criterion,
    batches: Iterable[EvaluationBatch],
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    channels_last: bool = True,
    after_batch: Callable[[], None] = lambda: None,
    examples: int = 0,
) -> Evaluation:
    """Run `network` (put into evaluation mode, and back) over `batches`.

    Boxes are compared in pixels of the source images. AP uses every candidate with score ≥ 0.001 after NMS at
    the config's IoU; precision, recall and F1 hold at the serving threshold. The loss is computed in fp32.
    """
    thresholds = family.default_thresholds(model_config)
    evaluator = DetectionEvaluator(family.class_names(model_config), int(thresholds["max_detections"]))
    score_threshold = float(thresholds["score_threshold"])
    losses: list[float] = []
    weights: list[int] = []
    shown: list[tuple[DetectionRecord, Detections]] = []
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            with autocast():
                outputs = network(network_input(batch.images.to(device), channels_last=channels_last))
            outputs = as_float32(outputs)
            loss = criterion(outputs, batch.targets.to(device))["loss"]
            losses.append(float(loss))
            weights.append(len(batch.records))
            found = _detections(family, model_config, outputs, batch.letterboxes, thresholds)
            for record, detections in zip(batch.records, found, strict=True):
                evaluator.add(detections, record.boxes, record.labels, record.ignore, record.image_id)
                if len(shown) < examples:
                    shown.append((record, detections.select(detections.scores >= score_threshold)))
            after_batch()
    finally:
        network.train(was_training)
    result = evaluator.compute(score_threshold)
    numbers: dict[str, float | None] = {"loss": float(np.average(losses, weights=weights))}
    numbers |= {name: result[name] for name in _SCALARS}
    curves = {name: value for name, value in result.items() if name not in _SCALARS}
    return Evaluation(numbers, curves, shown)


def _detections(
    family: DetectionFamily, model_config: Any, outputs: Any, letterboxes: list[Letterbox], thresholds: Any
) -> Iterable[Detections]:
    """Yield each image's detections in source pixels, best first."""
    boxes, scores, labels = (t.cpu().numpy() for t in family.decode(model_config, outputs))
    for geometry, *arrays in zip(letterboxes, boxes, scores, labels, strict=True):
        candidates = Detections(*arrays)
        candidates = candidates.select(candidates.scores >= CANDIDATE_SCORE)
        kept = candidates.select(
            nms(
                candidates.boxes,
                candidates.scores,
                candidates.labels,
                float(thresholds["iou_threshold"]),
                int(thresholds["max_detections"]),
            )
        )
        yield Detections(geometry.to_source(kept.boxes), kept.scores, kept.labels)
