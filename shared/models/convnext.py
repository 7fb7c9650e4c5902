"""ConvNeXt (Liu et al. 2022) with torchvision's parameter names, and CBAM where it is asked for.

The same function as torchvision's, laid out for ONNX Runtime: a block's linear layers are applied as 1×1
convolutions, its layer scale is part of the second one's weights, and pixels are normalised by the stem's
weights. In int8 that leaves nothing costly between the convolutions but LayerNorm and GELU.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.cbam import CBAM
from shared.models.classifier import ClassifierSpec, classification_head, pixel_statistics

EPS = 1e-6
EXPANSION = 4


@dataclass(frozen=True)
class ConvNeXtSize:
    """Blocks and channels of the four stages."""

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]


TINY = ConvNeXtSize((3, 3, 9, 3), (96, 192, 384, 768))
PICO = ConvNeXtSize((2, 2, 6, 2), (64, 128, 256, 512))
ZEPTO = ConvNeXtSize((2, 2, 4, 2), (32, 64, 128, 256))
ATTENTION_AFTER = (3, 4)  # stages, counted from 1


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of [N, C, H, W], each place on its own."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return x.permute(0, 3, 1, 2)


class StochasticDepth(nn.Module):
    """In training, replace a picture's whole branch by zero with `probability` (Huang et al. 2016)."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0.0:
            return x
        kept = 1.0 - self.probability
        mask = torch.empty(len(x), 1, 1, 1, device=x.device, dtype=x.dtype).bernoulli_(kept)
        return x * mask / kept


class Stem(nn.Conv2d):
    """The first 4×4 convolution, on pixels normalised as the spec says; [N, 3, H, W] -> [N, width, H/4, W/4].

    (x − mean) / std goes into the weights, which is exact because nothing is padded.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, width: int, spec: ClassifierSpec) -> None:
        super().__init__(3, width, kernel_size=4, stride=4)
        mean, std = pixel_statistics(spec)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        weight = self.weight / self.std.view(1, 3, 1, 1)
        bias = self.bias - (weight * self.mean.view(1, 3, 1, 1)).sum(dim=(1, 2, 3))
        return F.conv2d(x, weight, bias, stride=4)


class Block(nn.Module):
    """x + layer_scale · narrow(gelu(widen(norm(depthwise 7×7(x))))); [N, C, H, W] -> the same shape."""

    def __init__(self, channels: int, layer_scale: float, skip_probability: float) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size=7, padding=3, groups=channels),
            nn.Identity(),  # torchvision permutes here, and again at the end
            nn.LayerNorm(channels, eps=EPS),
            nn.Linear(channels, EXPANSION * channels),
            nn.GELU(),
            nn.Linear(EXPANSION * channels, channels),
        )
        self.layer_scale = nn.Parameter(torch.full((channels, 1, 1), layer_scale))
        self.stochastic_depth = StochasticDepth(skip_probability)

    def forward(self, x: Tensor) -> Tensor:
        depthwise, _, norm, widen, activation, narrow = self.block
        assert isinstance(widen, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        scale = self.layer_scale.flatten()  # [C]
        y = norm(depthwise(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # [N, C, H, W]
        y = activation(_pointwise(y, widen.weight, widen.bias))  # [N, 4C, H, W]
        y = _pointwise(y, narrow.weight * scale[:, None], narrow.bias * scale)  # [N, C, H, W]
        return x + self.stochastic_depth(y)


def _pointwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[N, in, H, W], [out, in], [out] -> [N, out, H, W]: a linear layer at every place."""
    return F.conv2d(x, weight[:, :, None, None], bias)


class ConvNeXt(nn.Module):
    """images float [N, 3, H, W] RGB in 0..1, H and W at least 32 -> logits [N, C].

    features: [N, 3, H, W] -> [N, D, H/32, W/32]: the trunk, with CBAM after the stages in `attention`
    (counted from 1). The trunk's parameters are called as torchvision's: `features.0.0.weight`
    to `features.7.…`, `classifier.0`, `classifier.2`; CBAM's are `features.cbam3.…` and `features.cbam4.…`.
    """

    def __init__(self, size: ConvNeXtSize, spec: ClassifierSpec, attention: tuple[int, ...] = ()) -> None:
        super().__init__()
        blocks = sum(size.depths)
        chances = [spec.stochastic_depth * number / (blocks - 1) for number in range(blocks)]
        steps: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, (depth, width) in enumerate(zip(size.depths, size.widths, strict=True)):
            if stage == 0:
                steps["0"] = nn.Sequential(Stem(width, spec), LayerNorm2d(width, eps=EPS))
            else:
                narrower = size.widths[stage - 1]
                steps[str(2 * stage)] = nn.Sequential(
                    LayerNorm2d(narrower, eps=EPS), nn.Conv2d(narrower, width, kernel_size=2, stride=2)
                )
            steps[str(2 * stage + 1)] = nn.Sequential(
                *(Block(width, spec.layer_scale, chances.pop(0)) for _ in range(depth))
            )
            if stage + 1 in attention:
                steps[f"cbam{stage + 1}"] = CBAM(width, spec.spatial_gate_norm)
        self.features = nn.Sequential(steps)
        last = size.widths[-1]
        self.classifier = nn.Sequential(LayerNorm2d(last, eps=EPS), nn.Flatten(1), nn.Linear(last, 1))
        self._initialise(spec)
        self.classifier[2] = classification_head(last, spec)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    def classify(self, features: Tensor) -> Tensor:
        """[N, D, h, w] -> logits [N, C]: mean over the places, LayerNorm, linear."""
        return self.classifier(features.mean(dim=(2, 3), keepdim=True))

    def activation_maps(self, features: Tensor) -> Tensor:
        """[N, D, h, w] -> [N, C, h, w]: what each place adds to the logits, which are the maps' mean.

        The head's LayerNorm takes its mean and deviation from the pooled vector, so with these held it is
        linear, and can be applied to every place before the pooling in place of after it.
        """
        norm, _, linear = self.classifier
        assert isinstance(norm, LayerNorm2d)
        assert isinstance(linear, nn.Linear)
        pooled = features.mean(dim=(2, 3), keepdim=True)  # [N, D, 1, 1]
        centre = pooled.mean(dim=1, keepdim=True)  # [N, 1, 1, 1]
        variance = (pooled - centre).square().mean(dim=1, keepdim=True)
        placed = (features - centre) * torch.rsqrt(variance + norm.eps)  # [N, D, h, w]
        weight = linear.weight * norm.weight  # [C, D]
        bias = linear.weight @ norm.bias + linear.bias  # [C]
        return _pointwise(placed, weight, bias)

    def _initialise(self, spec: ClassifierSpec) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                if spec.initial_weights == "fan_in":
                    nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                else:
                    nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def convnext_tiny(spec: ClassifierSpec) -> ConvNeXt:
    return ConvNeXt(TINY, spec)


def convnext_tiny_cbam(spec: ClassifierSpec) -> ConvNeXt:
    return ConvNeXt(TINY, spec, attention=ATTENTION_AFTER)


def convnext_pico(spec: ClassifierSpec) -> ConvNeXt:
    return ConvNeXt(PICO, spec)


def convnext_pico_cbam(spec: ClassifierSpec) -> ConvNeXt:
    return ConvNeXt(PICO, spec, attention=ATTENTION_AFTER)


def convnext_zepto(spec: ClassifierSpec) -> ConvNeXt:
    return ConvNeXt(ZEPTO, spec)


def convnext_zepto_cbam(spec: ClassifierSpec) -> ConvNeXt:
    return ConvNeXt(ZEPTO, spec, attention=ATTENTION_AFTER)
