"""Scores that should not flicker between neighbouring windows of a stream."""

import torch
from torch import Tensor


def temporal_consistency(scores: Tensor, pairs: Tensor) -> Tensor:
    """Mean over pairs, cells and classes of (s_later − s_earlier)². Scores [N, cells, classes] -> scalar.

    pairs int64 [P, 2]: rows (earlier, later) of windows that follow each other in one stream; zero without
    any. Both sides learn.
    """
    if not len(pairs):
        return scores.sum() * 0
    earlier, later = scores[pairs[:, 0]], scores[pairs[:, 1]]
    return torch.mean((later - earlier).square())
