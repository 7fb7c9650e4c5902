"""Checkpoints and weights on disk: written whole or not at all, loaded without running code."""

import errno
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import nn

from shared.core.files import atomic_path
from training.errors import CheckpointUnreadable, DiskFull


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's way to the disk, through a temporary file and a rename."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write `checkpoint`; raises DiskFull, with the previous file untouched, when there is no room."""
        target = Path(path)
        with room_for(target, last_good=target), atomic_path(target) as temporary:
            torch.save(checkpoint, temporary)


@contextmanager
def room_for(path: Path, last_good: Path) -> Iterator[None]:
    """Turn a full disk inside the block into DiskFull.

    torch.save wraps the system's error in a RuntimeError of its zip writer, so the chain is searched.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        if _is_disk_full(error):
            raise DiskFull(path, last_good if last_good.exists() else None) from error
        raise


def save_weights(network: nn.Module, path: Path, *, metadata: dict[str, str], last_good: Path) -> None:
    """Write a network's state as safetensors, contiguous, on the CPU; raises DiskFull."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with room_for(path, last_good), atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt", **metadata})


def load_weights(network: nn.Module, path: Path) -> None:
    """Read what `save_weights` wrote into `network`; every tensor must fit."""
    from safetensors.torch import load_file

    network.load_state_dict(load_file(path), strict=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's contents: tensors, numbers and text.

    Raises CheckpointUnreadable for a damaged file and for a pickle with code in it, which is not run.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise CheckpointUnreadable(
            f"{path} is not the checkpoint of a run, or it is damaged ({reason}); "
            "move it away to begin again with the first epoch"
        ) from error
    if not isinstance(checkpoint, dict) or "sightline" not in checkpoint:
        raise CheckpointUnreadable(f"{path} is a checkpoint of something else; train in another folder")
    return checkpoint


def load_buffers(part: nn.Module, checkpoint: Path, name: str) -> None:
    """Read the state of a run's `name` part, such as its criterion, from a checkpoint into `part`."""
    state = read_checkpoint(checkpoint)["state_dict"]
    prefix = f"{name}."
    part.load_state_dict(
        {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    )


def _is_disk_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
