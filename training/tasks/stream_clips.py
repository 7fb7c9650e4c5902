"""A stream network over a batch of clips: window by window, with what it carries from each to the next."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.data.events.clips.dataset import ClipBatch

# (h, c) of every stage, each [N, C, H, W]: what a stream network carries from window to window.
States = Sequence[tuple[Tensor, Tensor]]


def run_clip(
    network: nn.Module, batch: ClipBatch, memory: States | None, *, channels_last: bool
) -> tuple[Sequence[Tensor], States]:
    """Run `network` over all windows of a batch; return features [L, N, C, h, w] by level, the last states.

    memory: the states before the first window, those of lanes that begin anew replaced by zeros; None for
    zeros everywhere.
    """
    states = None if memory is None else begun_anew(memory, batch.first)
    frames = network_frames(batch.frames.flatten(0, 1), channels_last=channels_last)
    clip = frames.unflatten(0, batch.frames.shape[:2])
    features, states = network.recur_clip(clip, states)  # type: ignore[operator]
    return features, states


def network_frames(frames: Tensor, *, channels_last: bool) -> Tensor:
    """Return windows [N, C, H, W] as the network takes them: float32, not scaled."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return frames.to(torch.float32, memory_format=memory_format)


def begun_anew(states: States, first: Tensor) -> States:
    """Return the states with zeros in the lanes where `first` [N] says so."""
    lanes = first[:, None, None, None]
    return [(h.masked_fill(lanes, 0), c.masked_fill(lanes, 0)) for h, c in states]


def labelled_features(features: Sequence[Tensor], batch: ClipBatch) -> list[Tensor]:
    """Gather the features of the windows with labels: a map [M, C, h, w] for each level."""
    return [level.flatten(0, 1).index_select(0, batch.labelled) for level in features]


def features_without_memory(network: nn.Module, batch: ClipBatch, *, channels_last: bool) -> list[Tensor]:
    """The features of the windows with labels, each as if a stream began with it."""
    windows = batch.frames.flatten(0, 1).index_select(0, batch.labelled)
    features, _ = network.recur(network_frames(windows, channels_last=channels_last), None)  # type: ignore[operator]
    return list(features)
