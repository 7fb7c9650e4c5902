"""Batches for training and evaluation, the same for the same (seed, epoch) however often a run was resumed."""

import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from shared.data.torch_dataset import DetectionDataset
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from shared.families.family import Family


@dataclass
class TrainingBatch:
    """images uint8 [N, H, W, 3] RGB, and the family's targets for them."""

    images: Tensor
    targets: Any

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "TrainingBatch":
        return TrainingBatch(self.images.to(device, non_blocking=non_blocking), self.targets.to(device))

    def pin_memory(self) -> "TrainingBatch":
        return TrainingBatch(self.images.pin_memory(), self.targets)


@dataclass
class EvaluationBatch:
    """images uint8 [N, H, W, 3] RGB, the items they came from, and the targets for the validation loss."""

    images: Tensor
    items: Sequence[dict[str, Any]]
    targets: Any


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index): a permutation of the data set drawn from (seed, epoch), this rank's share of it.

    The epoch travels with the index, so that loader processes that live longer than an epoch augment each
    image by (seed, epoch, index) without being told anything.
    """

    def __init__(self, length: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._length, self._seed, self._rank, self._world_size = length, seed, rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; Lightning calls this before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._length // self._world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(self._length)
        share = order[self._rank :: self._world_size][: len(self)]  # every rank the same number of steps
        return iter([(self.epoch, int(index)) for index in share])


def training_loader(
    dataset: DetectionDataset,
    family: Family,
    model_config: Any,
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return the loader of TrainingBatch. The last, smaller batch of an epoch is left out.

    (A batch of one would spoil the batch statistics; the permutation leaves out other images each epoch.)
    """
    sampler = EpochSampler(len(dataset), seed, rank, world_size)
    return DataLoader(
        dataset,
        batch_size=min(batch_size, len(sampler)),
        sampler=sampler,
        drop_last=True,
        collate_fn=partial(_collate_training, family.encode_targets, model_config),
        pin_memory=pin_memory,
        **_worker_arguments(num_workers),
    )


def evaluation_loader(
    dataset: DetectionDataset, family: Family, model_config: Any, *, batch_size: int, num_workers: int
) -> DataLoader[Any]:
    """Return the loader of EvaluationBatch, in order, every image once."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=[(0, index) for index in range(len(dataset))],
        collate_fn=partial(_collate_evaluation, family.encode_targets, model_config),
        **_worker_arguments(num_workers),
    )


def _worker_arguments(num_workers: int) -> dict[str, Any]:
    if num_workers and multiprocessing.current_process().daemon:
        num_workers = 0  # a daemonic process may not have children; training.run reports it
    return {"num_workers": num_workers, "persistent_workers": num_workers > 0}


def _encode(encode_targets: Any, model_config: Any, items: Sequence[dict[str, Any]], images: Tensor) -> Any:
    height, width = images.shape[1:3]
    boxes, labels = [item["boxes"] for item in items], [item["labels"] for item in items]
    return encode_targets(model_config, boxes, labels, (height, width))


def _collate_training(
    encode_targets: Any, model_config: Any, items: Sequence[dict[str, Any]]
) -> TrainingBatch:
    images = torch.stack([item["images"] for item in items])
    return TrainingBatch(images, _encode(encode_targets, model_config, items, images))


def _collate_evaluation(
    encode_targets: Any, model_config: Any, items: Sequence[dict[str, Any]]
) -> EvaluationBatch:
    images = torch.stack([item["images"] for item in items])
    return EvaluationBatch(images, items, _encode(encode_targets, model_config, items, images))
