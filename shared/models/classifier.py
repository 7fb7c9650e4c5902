"""What every classification network is built from, and what it offers."""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from shared.models.blocks import prior_bias

# Mean and deviation of ImageNet's pixels in 0..1, RGB: what standard weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec:
    """What an architecture is asked for; each takes what concerns it.

    classes: logits per picture. normalize: what happens to pixels in 0..1 first. spatial_gate_norm: of CBAM.
    prior: probability that the untrained head predicts. layer_scale: first factor of every ConvNeXt block's
    branch. stochastic_depth: chance that training skips the last block's branch, rising from 0 at the first.
    initial_weights: of ConvNeXt, deviation 0.02 everywhere (the source's), or 1 / √inputs of each layer.
    """

    classes: int
    normalize: Literal["none", "imagenet"] = "imagenet"
    spatial_gate_norm: Literal["group", "batch"] = "group"
    prior: float = 0.5
    layer_scale: float = 1e-6
    stochastic_depth: float = 0.1
    initial_weights: Literal["normal", "fan_in"] = "normal"

    def __post_init__(self) -> None:
        if self.classes < 1:
            raise ValueError(f"a classifier needs at least one class, not {self.classes}")


class Classifier(Protocol):
    """images float [N, 3, H, W] RGB in 0..1 -> logits [N, C], in steps that may be taken apart."""

    def __call__(self, images: Tensor) -> Tensor: ...

    def features(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, D, H/32, W/32], rounded down."""

    def classify(self, features: Tensor) -> Tensor:
        """[N, D, h, w] -> logits [N, C]."""

    def activation_maps(self, features: Tensor) -> Tensor:
        """[N, D, h, w] -> [N, C, h, w], whose mean over h and w is the logits."""


def pixel_statistics(spec: ClassifierSpec) -> tuple[Tensor, Tensor]:
    """Mean [3] and deviation [3] by which pixels in 0..1 are normalised; 0 and 1 for "none"."""
    if spec.normalize == "none":
        return torch.zeros(3), torch.ones(3)
    return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)


class PixelNorm(nn.Module):
    """(pixels − mean) / deviation; float [N, 3, H, W] in 0..1. It has nothing to save."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: ClassifierSpec) -> None:
        super().__init__()
        mean, std = pixel_statistics(spec)
        self.register_buffer("mean", mean.view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", std.view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


def classification_head(in_features: int, spec: ClassifierSpec) -> nn.Linear:
    """A linear layer whose untrained answer is near the prior for every class."""
    head = nn.Linear(in_features, spec.classes)
    nn.init.trunc_normal_(head.weight, std=0.02)
    nn.init.constant_(head.bias, prior_bias(spec.prior))
    return head
