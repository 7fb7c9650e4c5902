"""ResNets (He et al. 2016; stride in the 3×3 convolution) with torchvision's parameter names."""

import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.cbam import CBAM
from shared.models.classifier import ClassifierSpec, PixelNorm, classification_head

ATTENTION_AFTER = (3, 4)  # stages, counted from 1


class BasicBlock(nn.Module):
    """[N, in, H, W] -> [N, channels, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + shortcut)


class Bottleneck(nn.Module):
    """[N, in, H, W] -> [N, 4·channels, H/stride, W/stride]."""

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


class ResNet(nn.Module):
    """images float [N, 3, H, W] RGB in 0..1 -> logits [N, C]; features [N, D, H/32, W/32].

    `width` is the first stage's channels, doubled by each further stage, so D = 8 · width · block.expansion.
    With `attention` (stages, counted from 1) CBAM follows these stages, as `cbam3` and `cbam4`.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        spec: ClassifierSpec,
        *,
        width: int = 64,
        attention: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.normalize = PixelNorm(spec)
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels = width
        for stage, depth in enumerate(depths, start=1):
            stage_width = width * 2 ** (stage - 1)
            self.add_module(
                f"layer{stage}", _stage(block, channels, stage_width, depth, stride=1 if stage == 1 else 2)
            )
            channels = stage_width * block.expansion
            if stage in attention:
                self.add_module(f"cbam{stage}", CBAM(channels, spec.spatial_gate_norm))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.fc = classification_head(channels, spec)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(self.normalize(images))))  # [N, width, H/2, W/2]
        x = self.maxpool(x)
        for stage in range(1, 5):  # [N, …, H/4, W/4] to [N, D, H/32, W/32]
            x = self.get_submodule(f"layer{stage}")(x)
            if hasattr(self, f"cbam{stage}"):
                x = self.get_submodule(f"cbam{stage}")(x)
        return x

    def classify(self, features: Tensor) -> Tensor:
        """[N, D, h, w] -> logits [N, C]: mean over the places, linear."""
        return self.fc(features.mean(dim=(2, 3)))

    def activation_maps(self, features: Tensor) -> Tensor:
        """[N, D, h, w] -> [N, C, h, w]: the head at every place; the logits are the maps' mean."""
        return F.conv2d(features, self.fc.weight[:, :, None, None], self.fc.bias)


def resnet50(spec: ClassifierSpec) -> ResNet:
    return ResNet(Bottleneck, (3, 4, 6, 3), spec)


def resnet18_slim(spec: ClassifierSpec) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), spec, width=16)


def resnet18_slim_cbam(spec: ClassifierSpec) -> ResNet:
    return ResNet(BasicBlock, (2, 2, 2, 2), spec, width=16, attention=ATTENTION_AFTER)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    """What makes the block's input fit its output; None where it fits already."""
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
    )


def _stage(
    block: type[BasicBlock] | type[Bottleneck], in_channels: int, channels: int, depth: int, stride: int
) -> nn.Sequential:
    others = (block(channels * block.expansion, channels, 1) for _ in range(depth - 1))
    return nn.Sequential(block(in_channels, channels, stride), *others)
