"""A stream network over a batch of clips: window by window, with what it carries from each to the next."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.data.events.clips.dataset import ClipBatch

# (h, c) of every stage, each [N, C, H, W]: what a stream network carries from window to window.
States = Sequence[tuple[Tensor, Tensor]]


def run_clip(
    network: nn.Module, batch: ClipBatch, memory: States | None, *, channels_last: bool
) -> tuple[list[Sequence[Tensor]], States]:
    """Run `network` over all windows of a batch; return each window's features and the last states.

    memory: the states before the first window, those of lanes that begin anew replaced by zeros; None for
    zeros everywhere.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    states = None if memory is None else begun_anew(memory, batch.first)
    features = []
    for frames in batch.frames:  # [N, C, H, W]
        window = frames.to(torch.float32, memory_format=memory_format)
        found, states = network.recur(window, states)  # type: ignore[operator]
        features.append(found)
    assert states is not None  # a clip has a window at least
    return features, states


def begun_anew(states: States, first: Tensor) -> States:
    """Return the states with zeros in the lanes where `first` [N] says so."""
    lanes = first[:, None, None, None]
    return [(h.masked_fill(lanes, 0), c.masked_fill(lanes, 0)) for h, c in states]


def labelled_features(features: Sequence[Sequence[Tensor]], batch: ClipBatch) -> list[Tensor]:
    """Gather the features of the windows with labels: a map [M, C, h, w] for each level."""
    return [torch.cat(level).index_select(0, batch.labelled) for level in zip(*features, strict=True)]


def features_without_memory(network: nn.Module, batch: ClipBatch, *, channels_last: bool) -> list[Tensor]:
    """The features of the windows with labels, each as if a stream began with it."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    windows = batch.frames.flatten(0, 1).index_select(0, batch.labelled)
    features, _ = network.recur(windows.to(torch.float32, memory_format=memory_format), None)  # type: ignore[operator]
    return list(features)
