"""Detection in streams: clips with a memory carried along, and the loss of the windows that have labels."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from shared.config import DataConfig, RunConfig
from shared.config.monitors import MONITORS
from shared.data.events.clips.augmentation import build_clip_augmentation
from shared.data.events.clips.dataset import ClipBatch, ClipDataset, collate
from shared.data.events.clips.frame_set import FrameSet, read_frame_splits
from shared.data.events.clips.plan import ClipSampler, EvaluationSampler
from shared.data.splits import Splits
from shared.families.family import StreamFamily
from training.errors import DataUnusable, WeightsUnusable
from training.loaders import worker_arguments
from training.network_input import as_float32
from training.run_folder import RunFolder
from training.tasks.stream_clips import labelled_features, run_clip
from training.tasks.stream_evaluation import EvaluationBatches, evaluate
from training.tasks.stream_settings import require_same_input
from training.tasks.task import Criterion, Evaluation, Step

_SIZES = ("small", "medium", "large")
_NAMED = 5  # of many recordings, in a message


class StreamDetectionTask:
    """Training of families that find boxes in streams; `TrainingTask` says what each part does."""

    name = "stream_detection"
    headline: tuple[str, ...] = ("ap50", "ap")
    monitors: Mapping[str, bool] = MONITORS["stream_detection"]
    told: frozenset[str] = frozenset()
    parts = "recordings"
    samples = "windows"
    data_hint = (
        "`sightline data events RECORDING` looks at one, `sightline data preprocess` makes {path} anew"
    )

    def read_splits(
        self, config: DataConfig, path: Path, family: StreamFamily, model_config: Any, seed: int
    ) -> Splits[FrameSet]:
        splits = read_frame_splits(config, path, family.class_names(model_config), seed)
        require_same_input(splits.train, family, model_config, path)
        return splits

    def check_splits(self, splits: Splits[FrameSet], path: Path, log: Callable[[str], None]) -> None:
        for name, part in (("training", splits.train), ("validation", splits.val), ("test", splits.test)):
            if part is None:
                continue
            present = {label for record in part.records for label in record.objects.classes.tolist()}
            if not present:
                hint = "; set data.test=null to do without" if name == "test" else ""
                raise DataUnusable(f"no {name} recording of {path} holds a box{hint}")
            absent = [label for number, label in enumerate(part.class_names) if number not in present]
            if absent:
                log(f"the {name} split has no box of {', '.join(absent)}")

    def training_loader(
        self,
        family: StreamFamily,
        model_config: Any,
        config: RunConfig,
        part: FrameSet,
        *,
        first_epoch: int,
        rank: int,
        pin_memory: bool,
        after_sample: Callable[[], None],
        log: Callable[[str], None],
    ) -> DataLoader[Any]:
        data = config.data
        frames = part.cached(after_sample) if data.cache == "ram" else part
        try:
            dataset = ClipDataset(
                frames,
                sequence_length=data.clip_length,
                augmentation=build_clip_augmentation(config.augmentation, frames.settings),
            )
            sampler = ClipSampler(
                frames,
                sampling=data.sampling,
                sequence_length=data.clip_length,
                batch_size=config.trainer.batch_size,
                seed=config.seed,
                rank=rank,
                world_size=config.trainer.devices,
            )
        except ValueError as error:
            raise DataUnusable(
                f"with data.sampling={data.sampling} and data.clip_length={data.clip_length}: {error}"
            ) from error
        if unused := sampler.unused:
            log(
                f"no clip is drawn from {len(unused)} of {len(part)} training recordings, which are shorter "
                f"than {data.clip_length} windows or have no label late enough: {_shortened(unused)}"
            )
        sampler.set_epoch(first_epoch)
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=collate,
            pin_memory=pin_memory,
            generator=torch.Generator().manual_seed(config.seed),  # as in training.loaders
            **worker_arguments(data.num_workers),
        )

    def evaluation_loader(
        self,
        family: StreamFamily,
        model_config: Any,
        config: RunConfig,
        part: FrameSet,
        *,
        kept: bool = False,
        after_sample: Callable[[], None] = lambda: None,
    ) -> EvaluationBatches:
        data = config.data
        frames = part.cached(after_sample) if kept and data.cache == "ram" else part
        sampler = EvaluationSampler(frames, sequence_length=data.clip_length, lanes=config.trainer.batch_size)
        loader: DataLoader[Any] = DataLoader(
            ClipDataset(frames, sequence_length=data.clip_length),
            batch_sampler=sampler,
            collate_fn=collate,
            **worker_arguments(data.num_workers),
        )
        return EvaluationBatches(frames, loader)

    def start(self, family: StreamFamily, network: nn.Module, model_config: Any, root: Path) -> str | None:
        if model_config.weights is None:
            return None
        try:
            report = family.load_weights(network, root / model_config.weights)
        except (ValueError, OSError) as error:
            raise WeightsUnusable(f"model.weights: {error}") from error
        return "starting from " + "; ".join(report.lines())

    def criterion(self, family: StreamFamily, model_config: Any, train: FrameSet) -> Criterion:
        return partial(family.loss, model_config)

    def step(
        self, network: nn.Module, criterion: Criterion, batch: ClipBatch, memory: Any, *, channels_last: bool
    ) -> Step:
        """Memory is the states after the last windows; clips that are `first` in their lane begin anew."""
        features, states = run_clip(network, batch, memory, channels_last=channels_last)
        if len(batch.labelled):
            outputs = network.detect(labelled_features(features, batch))  # type: ignore[operator]
            with torch.autocast(batch.frames.device.type, enabled=False):
                losses = criterion(as_float32(outputs), batch)
        else:  # nothing to learn from; every weight takes part, as devices that share a step expect
            losses = {"loss": torch.stack([0 * weight.sum() for weight in network.parameters()]).sum()}
        steps, lanes = batch.frames.shape[:2]
        return Step(
            losses,
            steps * lanes,
            {"boxes": batch.box_count},
            [(h.detach(), c.detach()) for h, c in states],
        )

    def evaluate(
        self,
        family: StreamFamily,
        model_config: Any,
        network: nn.Module,
        criterion: Criterion,
        batches: EvaluationBatches,
        *,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        channels_last: bool,
        after_batch: Callable[[], None],
        examples: int = 0,
        thresholds: list[float] | None = None,
    ) -> Evaluation:
        return evaluate(
            family,
            model_config,
            network,
            criterion,
            batches,
            device=device,
            autocast=autocast,
            channels_last=channels_last,
            after_batch=after_batch,
            examples=examples,
        )

    def write_inputs(
        self, folder: RunFolder, config: RunConfig, path: Path, splits: Splits[FrameSet]
    ) -> None:
        return

    def write_results(
        self, folder: RunFolder, splits: Splits[FrameSet], evaluations: Mapping[str, Evaluation]
    ) -> dict[str, Any]:
        return {
            "per_class": {split: evaluation.per_class for split, evaluation in evaluations.items()},
            "counts": {
                split: {
                    name: evaluation.curves[name]
                    for name in ("frames", "truths", "boxes_at_rest", "boxes_moving", "tp", "fp", "fn")
                }
                for split, evaluation in evaluations.items()
            },
            "confusion": {
                split: evaluation.curves["confusion"].tolist() for split, evaluation in evaluations.items()
            },
        }

    def write_plots(
        self,
        folder: RunFolder,
        rows: list[dict[str, Any]],
        evaluation: Evaluation,
        split: str,
        train: FrameSet,
    ) -> list[Path]:
        from training.tasks.stream_detection_plots import write_plots

        return write_plots(folder, rows, evaluation, split, train)

    def summary(
        self, metrics: Mapping[str, float | None], per_class: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        def number(value: float | None) -> str:
            return "undefined" if value is None else f"{value:.3f}"

        rows = [(name, number(metrics[name])) for name in ("ap50", "ap", "precision", "recall", "f1")]
        rows.append(("ap small, medium, large", ", ".join(number(metrics[f"ap_{size}"]) for size in _SIZES)))
        recalls = [number(metrics[name]) for name in ("recall_moving", "recall_at_rest")]
        rows.append(("recall moving, at rest", ", ".join(recalls)))
        best, threshold = metrics["best_f1"], metrics["best_f1_threshold"]
        if best is not None and threshold is not None:
            rows.append(("best f1", f"{best:.3f} at a score of {threshold:.2f}"))
        for name, numbers in per_class.items():
            rows.append(
                (
                    f"class {name}",
                    f"ap50 {number(numbers['ap50'])}, ap {number(numbers['ap'])} of {numbers['boxes']}",
                )
            )
        return rows


def _shortened(names: Sequence[str]) -> str:
    left = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {left} more" if left > 0 else "")
