"""Detection: pictures and boxes as batches and targets."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from shared.config import DataConfig, RunConfig
from shared.config.monitors import MONITORS
from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.splits import Splits, read_splits
from shared.data.torch_dataset import Batch, DetectionDataset, Sample, collate
from shared.data.transforms import build_augmentation
from shared.families.family import DetectionFamily
from training.errors import DataUnusable
from training.loaders import evaluation_loader
from training.run_folder import RunFolder
from training.tasks.detection_evaluation import EvaluationBatch, evaluate
from training.tasks.pictures import TrainingBatch, picture_batches, picture_step
from training.tasks.task import Criterion, Evaluation, Step


class DetectionTask:
    """Training of families that find boxes; `TrainingTask` says what each part does."""

    name = "detection"
    headline: tuple[str, ...] = ("ap50", "ap")
    monitors: Mapping[str, bool] = MONITORS["detection"]
    told: frozenset[str] = frozenset()
    parts = "images"
    samples = "images"
    data_hint = "`sightline data check {path}` names each defect"

    def read_splits(
        self, config: DataConfig, path: Path, family: DetectionFamily, model_config: Any, seed: int
    ) -> Splits[DetectionSet]:
        return read_splits(config, path, family.class_names(model_config), seed)

    def check_splits(self, splits: Splits[DetectionSet], path: Path, log: Callable[[str], None]) -> None:
        for name, part in (("training", splits.train), ("validation", splits.val)):
            if all(record.ignore.all() for record in part.records):
                raise DataUnusable(f"no {name} image of {path} holds a box of {', '.join(part.class_names)}")

    def training_loader(
        self,
        family: DetectionFamily,
        model_config: Any,
        config: RunConfig,
        part: DetectionSet,
        *,
        first_epoch: int,
        rank: int,
        pin_memory: bool,
        after_sample: Callable[[], None],
        log: Callable[[str], None],
    ) -> DataLoader[Any]:
        dataset = DetectionDataset(
            part,
            family.input_size(model_config),
            augmentation=build_augmentation(config.augmentation),
            seed=config.seed,
            cache=config.data.cache,
            on_image=after_sample,
        )
        collate = partial(collate_training, family.encode_targets, model_config)
        return picture_batches(
            dataset,
            collate,
            config,
            first_epoch=first_epoch,
            rank=rank,
            pin_memory=pin_memory,
            log=log,
        )

    def evaluation_loader(
        self,
        family: DetectionFamily,
        model_config: Any,
        config: RunConfig,
        part: DetectionSet,
        *,
        kept: bool = False,
        after_sample: Callable[[], None] = lambda: None,
    ) -> DataLoader[Any]:
        dataset = DetectionDataset(
            part,
            family.input_size(model_config),
            cache=config.data.cache if kept else "none",
            on_image=after_sample,
        )
        return evaluation_loader(
            dataset,
            partial(collate_evaluation, family.encode_targets, model_config, part.records),
            batch_size=config.trainer.batch_size,
            num_workers=config.data.num_workers,
        )

    def step(
        self,
        network: nn.Module,
        criterion: Criterion,
        batch: TrainingBatch,
        memory: Any,
        *,
        channels_last: bool,
    ) -> Step:
        return picture_step(network, criterion, batch, channels_last=channels_last)

    def start(self, family: DetectionFamily, network: nn.Module, model_config: Any, root: Path) -> None:
        return

    def criterion(self, family: DetectionFamily, model_config: Any, train: DetectionSet) -> Criterion:
        return partial(family.loss, model_config)

    def evaluate(
        self,
        family: DetectionFamily,
        model_config: Any,
        network: nn.Module,
        criterion: Criterion,
        batches: Iterable[EvaluationBatch],
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
        self, folder: RunFolder, config: RunConfig, path: Path, splits: Splits[DetectionSet]
    ) -> None:
        return

    def write_results(
        self, folder: RunFolder, splits: Splits[DetectionSet], evaluations: Mapping[str, Evaluation]
    ) -> dict[str, Any]:
        return {}

    def write_plots(
        self,
        folder: RunFolder,
        rows: list[dict[str, Any]],
        evaluation: Evaluation,
        split: str,
        train: DetectionSet,
    ) -> list[Path]:
        from training.tasks.detection_plots import write_plots

        return write_plots(folder, rows, evaluation, split, train)

    def summary(
        self, metrics: Mapping[str, float | None], per_class: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        rows = []
        for key in ("ap50", "ap", "precision", "recall", "f1"):
            value = metrics[key]
            rows.append((key, "undefined" if value is None else f"{value:.3f}"))
        best, threshold = metrics["best_f1"], metrics["best_f1_threshold"]
        if best is not None and threshold is not None:
            rows.append(("best f1", f"{best:.3f} at a score of {threshold:.2f}"))
        return rows


def collate_training(encode_targets: Any, model_config: Any, samples: list[Sample]) -> TrainingBatch:
    """Make a batch of samples; counts the boxes for which there was no place."""
    batch = collate(samples)
    targets = _targets(encode_targets, model_config, batch)
    return TrainingBatch(batch["images"], targets, {"collisions": targets.collisions})


def collate_evaluation(
    encode_targets: Any, model_config: Any, records: list[DetectionRecord], samples: list[Sample]
) -> EvaluationBatch:
    """Make a batch of samples; `records` are the data set's, by index."""
    batch = collate(samples)
    return EvaluationBatch(
        batch["images"],
        [records[index] for index in batch["indices"]],
        batch["letterboxes"],
        _targets(encode_targets, model_config, batch),
    )


def _targets(encode_targets: Any, model_config: Any, batch: Batch) -> Any:
    height, width = batch["images"].shape[1:3]
    return encode_targets(
        model_config, batch["boxes"], batch["labels"], (height, width), batch["ignored_boxes"]
    )
