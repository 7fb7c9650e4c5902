"""Batches and steps of every task whose samples are single pictures."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.config import RunConfig
from training.errors import DataUnusable
from training.loaders import EpochDataset, training_loader
from training.network_input import as_float32, network_input
from training.tasks.task import Criterion, Step


@dataclass
class TrainingBatch:
    """images uint8 [N, H, W, 3] RGB, what the criterion compares the outputs with, and what is counted."""

    images: Tensor
    targets: Any
    counts: dict[str, int] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TrainingBatch":
        images = self.images.to(device, non_blocking=non_blocking)
        return TrainingBatch(images, self.targets.to(device), self.counts)

    def pin_memory(self) -> "TrainingBatch":
        return TrainingBatch(self.images.pin_memory(), self.targets, self.counts)


def picture_step(
    network: nn.Module, criterion: Criterion, batch: TrainingBatch, *, channels_last: bool
) -> Step:
    """The step of a task whose network takes pictures and remembers nothing."""
    outputs = network(network_input(batch.images, channels_last=channels_last))
    with torch.autocast(batch.images.device.type, enabled=False):
        losses = criterion(as_float32(outputs), batch.targets)
    return Step(losses, len(batch.images), batch.counts)


def picture_batches(
    dataset: EpochDataset,
    collate: Callable[[list[Any]], TrainingBatch],
    config: RunConfig,
    *,
    first_epoch: int,
    rank: int,
    pin_memory: bool,
    log: Callable[[str], None],
) -> DataLoader[Any]:
    """Return the training loader that `config` describes. Raises DataUnusable where it would be empty."""
    trainer = config.trainer
    batches = training_loader(
        dataset,
        collate,
        batch_size=trainer.batch_size,
        num_workers=config.data.num_workers,
        seed=config.seed,
        first_epoch=first_epoch,
        rank=rank,
        world_size=trainer.devices,
        pin_memory=pin_memory,
    )
    if not len(batches):
        raise DataUnusable(
            f"{len(dataset)} training images are too few for trainer.devices={trainer.devices}"
        )
    if len(dataset) < trainer.batch_size * trainer.devices:
        log(
            f"{len(dataset)} training images do not fill a batch of {trainer.batch_size}: "
            f"an epoch is one step of {batches.batch_size}"
        )
    return batches
