"""Batches for training and evaluation: a function of (seed, epoch), however often a run was resumed."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler


class EpochDataset(Protocol):
    """A torch Dataset whose samples are a function of the epoch too."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...

    def set_epoch(self, epoch: int) -> None: ...


class EpochSampler(Sampler[int]):
    """Yields indices: a permutation of the data set drawn from (seed, epoch), this rank's share of it."""

    def __init__(self, dataset: EpochDataset, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self._dataset, self._seed, self._rank, self._world_size = dataset, seed, rank, world_size
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation and the augmentations; Lightning calls this before each epoch."""
        self.epoch = epoch
        self._dataset.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._dataset) // self._world_size

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng((self._seed, self.epoch)).permutation(len(self._dataset))
        share = order[self._rank :: self._world_size][: len(self)]  # every rank the same number of steps
        return iter(share.tolist())


def training_loader(
    dataset: EpochDataset,
    collate: Callable[[list[Any]], Any],
    *,
    batch_size: int,
    num_workers: int,
    seed: int,
    first_epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Return the loader of what `collate` makes of samples. The last, smaller batch of an epoch is left out.

    (A batch of one would spoil the batch statistics; the permutation leaves out other images each epoch.)
    Fewer images than a batch are one smaller batch; with fewer images than ranks there is none.
    `first_epoch`, counted from 0, is where a resumed run goes on: loader processes start before Lightning
    says which epoch it is.
    """
    sampler = EpochSampler(dataset, seed, rank, world_size)
    sampler.set_epoch(first_epoch)
    return DataLoader(
        dataset,  # type: ignore[arg-type] # it has what a Dataset needs
        batch_size=max(1, min(batch_size, len(sampler))),
        sampler=sampler,
        drop_last=True,
        collate_fn=collate,
        pin_memory=pin_memory,
        # Each start of an epoch draws a number from it. From the common generator a resumed run would draw
        # it before the epoch is seeded, an undisturbed one after, and what the network draws would differ.
        generator=torch.Generator().manual_seed(seed),
        **worker_arguments(num_workers),
    )


def evaluation_loader(
    dataset: EpochDataset, collate: Callable[[list[Any]], Any], *, batch_size: int, num_workers: int
) -> DataLoader[Any]:
    """Return the loader of what `collate` makes of samples, in order, every image once."""
    return DataLoader(
        dataset,  # type: ignore[arg-type] # it has what a Dataset needs
        batch_size=batch_size,
        collate_fn=collate,
        **worker_arguments(num_workers),
    )


def loader_processes(num_workers: int) -> int:
    """Return how many loader processes there can be: a daemonic process may have no children."""
    return 0 if multiprocessing.current_process().daemon else num_workers


def worker_arguments(num_workers: int) -> dict[str, Any]:
    """Return a DataLoader's arguments for so many processes."""
    workers = loader_processes(num_workers)
    return {"num_workers": workers, "persistent_workers": workers > 0, "worker_init_fn": _leave_interrupts}


def _leave_interrupts(worker: int) -> None:
    """Let Ctrl-C, which a terminal sends to every process, stop the run by way of the training process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
