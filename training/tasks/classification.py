"""Classification: pictures and labels as batches and targets, and what a run leaves."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import torch
from torch import nn
from torch.utils.data import DataLoader

from shared.config import DataConfig, RunConfig
from shared.config.monitors import MONITORS
from shared.core.files import write_atomic
from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.classification_splits import parse_ratios, read_classification_splits
from shared.data.classification_torch import (
    ClassificationDataset,
    ClassificationSample,
    collate_classification,
)
from shared.data.formats.classification import find_classification_splits
from shared.data.rare_classes import repeat_rare
from shared.data.split_file import describe_parts, read_split_file, write_split_file
from shared.data.splits import Splits
from shared.data.transforms import build_augmentation
from shared.data.windows import WindowPolicy
from shared.families.family import ClassificationFamily
from shared.models.weights import load_trunk_weights
from training.errors import ResumeMismatch, WeightsUnusable
from training.loaders import evaluation_loader
from training.run_folder import RunFolder
from training.tasks.classification_evaluation import EvaluationBatch, evaluate
from training.tasks.classification_intervals import intervals
from training.tasks.pictures import TrainingBatch, picture_batches, picture_step
from training.tasks.task import Criterion, Evaluation, Step


class ClassificationTask:
    """Training of families that label pictures; `TrainingTask` says what each part does."""

    name = "classification"
    headline: tuple[str, ...] = ("macro_f1", "map")
    monitors: Mapping[str, bool] = MONITORS["classification"]
    told = frozenset({"class_absent"})
    parts = "images"
    samples = "images"
    data_hint = "`sightline data check {path}` names each defect"

    def read_splits(
        self, config: DataConfig, path: Path, family: ClassificationFamily, model_config: Any, seed: int
    ) -> Splits[ClassificationSet]:
        return read_classification_splits(config, path, family.class_names(model_config), seed)

    def check_splits(self, splits: Splits[ClassificationSet], path: Path, log: Callable[[str], None]) -> None:
        """Without any positive to learn from, `read_splits` has raised."""
        for name, part in _parts(splits).items():
            for warning in _absences(name, part):
                log(warning)

    def training_loader(
        self,
        family: ClassificationFamily,
        model_config: Any,
        config: RunConfig,
        part: ClassificationSet,
        *,
        first_epoch: int,
        rank: int,
        pin_memory: bool,
        after_sample: Callable[[], None],
        log: Callable[[str], None],
    ) -> DataLoader[Any]:
        data = config.data
        if data.repeat_rare:
            part = repeat_rare(part, data.repeat_rare, config.seed)
        dataset = ClassificationDataset(
            part,
            family.input_size(model_config),
            augmentation=build_augmentation(config.augmentation),
            windows=WindowPolicy(data.window_size, data.window_focus) if data.window_size else None,
            seed=config.seed,
            cache=data.cache,
            on_image=after_sample,
        )
        return picture_batches(
            dataset,
            _collate_training,
            config,
            first_epoch=first_epoch,
            rank=rank,
            pin_memory=pin_memory,
            log=log,
        )

    def evaluation_loader(
        self,
        family: ClassificationFamily,
        model_config: Any,
        config: RunConfig,
        part: ClassificationSet,
        *,
        kept: bool = False,
        after_sample: Callable[[], None] = lambda: None,
    ) -> DataLoader[Any]:
        dataset = ClassificationDataset(
            part,
            family.input_size(model_config),
            cache=config.data.cache if kept else "none",
            on_image=after_sample,
        )
        return evaluation_loader(
            dataset,
            partial(_collate_evaluation, part.records),
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

    def start(
        self, family: ClassificationFamily, network: nn.Module, model_config: Any, root: Path
    ) -> str | None:
        if model_config.weights is None:
            return None
        path = root / model_config.weights
        try:
            return "starting from " + "; ".join(load_trunk_weights(network, path).lines())
        except (ValueError, OSError) as error:
            raise WeightsUnusable(f"model.weights: {error}") from error

    def criterion(
        self, family: ClassificationFamily, model_config: Any, train: ClassificationSet
    ) -> nn.Module:
        return family.build_loss(model_config, train.class_counts(), len(train))

    def evaluate(
        self,
        family: ClassificationFamily,
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
            thresholds=thresholds,
        )

    def write_inputs(
        self, folder: RunFolder, config: RunConfig, path: Path, splits: Splits[ClassificationSet]
    ) -> None:
        data = config.data
        divided = data.split_file is not None or bool(find_classification_splits(path, format=data.format))
        parts = {"train": splits.train, "val": splits.val, "test": splits.test}
        if splits.val is splits.train:
            del parts["val"]
        described = describe_parts(
            {name: part for name, part in parts.items() if part is not None},
            seed=config.seed if not divided or data.val is None else None,
            ratios=None if divided else parse_ratios(data.ratios),
        )
        if folder.checkpoint.exists() and folder.splits.exists():
            before = read_split_file(folder.splits)
            if (before.parts, before.data_hash) != (described.parts, described.data_hash):
                raise ResumeMismatch(
                    f"{folder.path} holds a run on other splits than those of {path} now (images or labels "
                    "were changed since); restore the data, or train in another folder"
                )
        write_split_file(folder.splits, described)

    def write_results(
        self,
        folder: RunFolder,
        splits: Splits[ClassificationSet],
        evaluations: Mapping[str, Evaluation],
    ) -> dict[str, Any]:
        thresholds = evaluations["val"].thresholds
        document = {
            "probability": thresholds,
            "class_names": splits.train.class_names,
            "chosen_on": "val",
            "by": "largest F1 of each class",
        }
        write_atomic(folder.thresholds, orjson.dumps(document, option=orjson.OPT_INDENT_2))
        counts = dict(zip(splits.train.class_names, splits.train.class_counts().tolist(), strict=True))
        return {
            "thresholds": thresholds,
            "undefined": {split: evaluation.curves["undefined"] for split, evaluation in evaluations.items()},
            "intervals": {
                split: intervals(evaluation.curves["answers"], thresholds or [])
                for split, evaluation in evaluations.items()
            },
            "per_class": {
                split: {
                    name: {**numbers, "training_images": counts[name]}
                    for name, numbers in evaluation.per_class.items()
                }
                for split, evaluation in evaluations.items()
            },
        }

    def write_plots(
        self,
        folder: RunFolder,
        rows: list[dict[str, Any]],
        evaluation: Evaluation,
        split: str,
        train: ClassificationSet,
    ) -> list[Path]:
        from training.tasks.classification_plots import write_plots

        return write_plots(folder, rows, evaluation, split, train)

    def summary(
        self, metrics: Mapping[str, float | None], per_class: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        def number(name: str) -> str:
            value = metrics[name]
            return "undefined" if value is None else f"{value:.3f}"

        rows = [(name, number(name)) for name in ("macro_f1", "micro_f1", "map")]
        rows += [
            (name, f"{number(name)} (predicting nothing: {number(empty)})")
            for name, empty in (
                ("label_accuracy", "empty_label_accuracy"),
                ("exact_match", "empty_exact_match"),
            )
        ]
        for name, numbers in per_class.items():
            rows.append(
                (
                    f"class {name}",
                    f"f1 {numbers['f1']:.3f}, precision {numbers['precision']:.3f}, recall "
                    f"{numbers['recall']:.3f} of {numbers['support']}, at {numbers['threshold']:.2f}",
                )
            )
        return rows


def _parts(splits: Splits[ClassificationSet]) -> dict[str, ClassificationSet]:
    parts = {"training": splits.train, "validation": splits.val, "test": splits.test}
    return {name: part for name, part in parts.items() if part is not None}


def _absences(name: str, part: ClassificationSet) -> list[str]:
    """What is told of a split that lacks a class, or every class."""
    counts = part.class_counts()
    absent = [label for label, count in zip(part.class_names, counts, strict=True) if not count]
    if not absent:
        return []
    if len(absent) == len(counts):
        what = f"none of the {len(part)} {name} images holds any class"
    else:
        what = f"{len(absent)} of {len(counts)} classes are absent from the {name} split: {', '.join(absent)}"
    if name == "training":
        return [f"{what}; the network cannot learn them"]
    return [f"{what}; their F1 counts as 0 there, their AP and AUROC are left out"]


def _collate_training(samples: list[ClassificationSample]) -> TrainingBatch:
    batch = collate_classification(samples)
    return TrainingBatch(batch["images"], batch["labels"])


def _collate_evaluation(
    records: list[ClassificationRecord], samples: list[ClassificationSample]
) -> EvaluationBatch:
    batch = collate_classification(samples)
    chosen = [records[index] for index in batch["indices"]]
    return EvaluationBatch(batch["images"], chosen, batch["labels"])
