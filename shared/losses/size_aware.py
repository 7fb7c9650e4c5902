"""Weights that make small objects count more (specs/events.md section 14)."""

import torch
from torch import Tensor


def size_aware_weights(sizes: Tensor, threshold: float) -> Tensor:
    """exp(−√(w·h) / τ), divided by its mean. w, h in pixels, float [G, 2]; τ in pixels -> [G] of mean 1.

    The smallest object is the exponent's origin: it cancels in the mean, and sizes of many τ stay finite.
    """
    if not len(sizes):
        return sizes.new_zeros(0)
    side = sizes.prod(dim=-1).sqrt()
    weights = torch.exp((side.min() - side) / threshold)
    return weights / weights.mean()
