"""What a stream network finds in recordings followed from their beginning, against their labels."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.data.events.clips.dataset import ClipBatch
from shared.data.events.clips.frame_set import FrameSet
from shared.families.family import StreamFamily
from shared.metrics.coco import CANDIDATE_SCORE
from shared.metrics.stream_detection import SCALARS, StreamEvaluator
from shared.metrics.stream_protocol import Protocol
from shared.vision.boxes import Detections
from shared.vision.nms import nms
from training.network_input import as_float32
from training.tasks.stream_clips import States, features_without_memory, labelled_features, run_clip
from training.tasks.stream_detection_plots import ShownWindow
from training.tasks.task import Criterion, Evaluation

ALL = Protocol()

_OF_CLASS = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar"),
    *("precision", "recall", "f1", "boxes", "predicted"),
)


@dataclass(frozen=True)
class EvaluationBatches:
    """Every window of `frames` once, recordings side by side in lanes and in order of time."""

    frames: FrameSet
    loader: DataLoader[Any]

    def __iter__(self) -> Iterator[ClipBatch]:
        return iter(self.loader)


@torch.no_grad()
def evaluate(
    family: StreamFamily,
    model_config: Any,
    network: nn.Module,
    criterion: Criterion,
    batches: EvaluationBatches,
    *,
    device: torch.device,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    channels_last: bool = True,
    after_batch: Callable[[], None] = lambda: None,
    examples: int = 0,
    remember: bool = True,
    protocol: Protocol = ALL,
) -> Evaluation:
    """Run `network` (put into evaluation mode, and back) over `batches`; judge the windows with labels.

    Boxes are compared in pixels of the frames. AP uses every candidate with score ≥ 0.001 after NMS at the
    config's IoU; precision, recall and F1 hold at the serving threshold. The loss is computed in fp32.
    `remember=False` gives the network each window as if it were a stream's first: what it finds then, it
    finds without memory. `protocol` says which windows, boxes and classes count.
    """
    thresholds = family.default_thresholds(model_config)
    class_names = family.class_names(model_config)
    evaluator = StreamEvaluator(
        class_names,
        family.input_size(model_config),
        protocol=protocol,
        max_detections=int(thresholds["max_detections"]),
    )
    frames = batches.frames
    shown_windows = _spread(frames, examples)
    shown: list[tuple[ShownWindow, Detections]] = []
    score_threshold = float(thresholds["score_threshold"])
    losses: list[float] = []
    weights: list[int] = []
    states: States | None = None
    was_training = network.training
    network.eval()
    try:
        for batch in batches:
            on_device = batch.to(device)
            with autocast():
                if remember:
                    features, states = run_clip(network, on_device, states, channels_last=channels_last)
                    found = labelled_features(features, on_device)
                else:
                    found = features_without_memory(network, on_device, channels_last=channels_last)
                after_batch()
                if not batch.windows:
                    continue
                outputs = network.detect(found)  # type: ignore[operator]
            outputs = as_float32(outputs)
            losses.append(float(criterion(outputs, on_device)["loss"]))
            weights.append(len(batch.windows))
            answers = family.decode(model_config, network.cells(outputs))  # type: ignore[operator]
            found_in = zip(batch.windows, _kept(answers, thresholds), strict=True)
            for row, (window, (detections, probability)) in enumerate(found_in):
                record = frames.records[window.recording]
                truth = record.boxes(window.window, window.window + 1)
                at_rest = evaluator.add(
                    record.name,
                    window.time_us,
                    detections,
                    probability,
                    truth.corners,
                    truth.classes,
                    truth.track_ids,
                )
                if (window.recording, window.window) in shown_windows:
                    step, lane = divmod(int(batch.labelled[row]), batch.frames.shape[1])
                    frame = batch.frames[step, lane].numpy()
                    picture = ShownWindow(
                        record.name, window.time_us, frame, truth.corners, truth.classes, at_rest
                    )
                    shown.append((picture, detections.select(detections.scores >= score_threshold)))
    finally:
        network.train(was_training)
    result = evaluator.compute(score_threshold)
    per_class = {
        name: {key: numbers[key] for key in _OF_CLASS} for name, numbers in result["per_class"].items()
    }
    numbers: dict[str, float | None] = {
        "loss": float(np.average(losses, weights=weights)),
        **{name: result[name] for name in SCALARS},
        **{f"ap/{name}": values["ap"] for name, values in per_class.items()},
    }
    curves = {name: value for name, value in result.items() if name not in SCALARS}
    return Evaluation(numbers, curves, shown, per_class)


def _kept(
    answers: Iterable[Tensor], thresholds: Mapping[str, float | int]
) -> Iterator[tuple[Detections, NDArray[np.float32]]]:
    """Yield each window's detections, best first, and the probability of each one's class."""
    boxes, scores, labels, probabilities = (answer.cpu().numpy() for answer in answers)
    for window in zip(boxes, scores, labels, probabilities, strict=True):
        chosen = window[1] >= CANDIDATE_SCORE
        candidates = Detections(*(column[chosen] for column in window[:3]))
        kept = nms(
            candidates.boxes,
            candidates.scores,
            candidates.labels,
            float(thresholds["iou_threshold"]),
            int(thresholds["max_detections"]),
        )
        yield candidates.select(kept), window[3][chosen][kept]


def _spread(frames: FrameSet, count: int) -> set[tuple[int, int]]:
    """`count` windows with labels, (recording, window), evenly over the set."""
    there = [
        (recording, int(window))
        for recording, record in enumerate(frames.records)
        for window in record.labelled
    ]
    return {there[place * len(there) // count] for place in range(min(count, len(there)))}
