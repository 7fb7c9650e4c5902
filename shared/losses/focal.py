"""Focal loss of independent labels, weighted by class frequency (Lin et al. 2017; specs/components.md, 5)."""

from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class FocalConfig(Protocol):
    """What the loss reads of a family's config."""

    @property
    def gamma(self) -> float: ...
    @property
    def negative_floor(self) -> float: ...


class FocalLoss(nn.Module):
    """logits float [N, C], labels float [N, C] of 0 and 1 -> loss_positive, loss_negative and "loss".

    Per label w · (1 − p_t)^γ · BCE, p_t the probability of what is true, and w of class c α_c for a positive
    and max(1 − α_c, negative_floor) for a negative: with α near 1 plain 1 − α would all but ignore the
    rarest class's negatives. Both terms are sums over their labels / (N · C), so that "loss", their sum, is
    the mean. alpha float [C] in 0..1 is a buffer. Finite, with finite gradients, for every finite logit.
    """

    alpha: Tensor

    def __init__(self, alpha: Tensor, *, gamma: float = 2.0, negative_floor: float = 0.25) -> None:
        super().__init__()
        if not bool(((alpha >= 0) & (alpha <= 1)).all()):
            raise ValueError(f"alpha lies in 0..1, not at {alpha.tolist()}")
        self.gamma = gamma
        self.negative_floor = negative_floor
        self.register_buffer("alpha", alpha.float())

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits, labels = logits.float(), labels.float()
        negative_weight = (1.0 - self.alpha).clamp(min=self.negative_floor)  # [C]
        log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
        # (1 − p_t)^γ as an exponential: a power of an underflowed 0 has no finite gradient for γ below 1.
        positive = self.alpha * torch.exp(self.gamma * log_not_p) * -log_p * labels
        negative = negative_weight * torch.exp(self.gamma * log_p) * -log_not_p * (1 - labels)
        terms = {
            "loss_positive": positive.sum() / labels.numel(),
            "loss_negative": negative.sum() / labels.numel(),
        }
        return {"loss": terms["loss_positive"] + terms["loss_negative"], **terms}


def class_frequency_alpha(class_counts: NDArray[np.int64], images: int) -> Tensor:
    """α_c = 1 − n_c / N, float32 [C], of n_c training pictures that hold class c, of N in all.

    ValueError for a count outside 0..N, or without pictures.
    """
    counts = np.asarray(class_counts)
    if images < 1:
        raise ValueError("class frequencies need training pictures, and there are none")
    if ((counts < 0) | (counts > images)).any():
        raise ValueError(f"of {images} training pictures {counts.tolist()} cannot hold each class")
    return torch.from_numpy(1.0 - counts / images).float()


def build_focal(config: FocalConfig, class_counts: NDArray[np.int64], images: int) -> FocalLoss:
    """The loss for a training split of `images` pictures, of which class_counts int64 [C] hold each class."""
    alpha = class_frequency_alpha(class_counts, images)
    return FocalLoss(alpha, gamma=config.gamma, negative_floor=config.negative_floor)
