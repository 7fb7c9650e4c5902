"""Binary cross-entropy for outputs that are already probabilities."""

import torch
from torch import Tensor

# The float32 neighbours of 0 and 1 at which log is finite and its gradient is too.
PROBABILITY_EPS = 1e-7


def probability_bce(probability: Tensor, target: Tensor) -> Tensor:
    """Elementwise −[y·log p + (1−y)·log(1−p)], float32, same shape as the inputs.

    For a network whose logits are gone (a sigmoid followed by resampling). torch's own
    `binary_cross_entropy` is refused under autocast and raises on NaN, where a training loop wants to
    see the NaN and say so; at p = 0 or 1 exactly this one gives 16.1 and a zero gradient, never inf.
    """
    p = probability.float().clamp(PROBABILITY_EPS, 1.0 - PROBABILITY_EPS)
    y = target.float()
    return -(y * torch.log(p) + (1.0 - y) * torch.log1p(-p))
