"""ResNet-50 (He et al. 2016; stride in the 3×3 convolution) with torchvision's parameter names."""

import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.classifier import ClassifierSpec, PixelNorm, classification_head

EXPANSION = 4
RESNET50_DEPTHS = (3, 4, 6, 3)


class Bottleneck(nn.Module):
    """[N, in, H, W] -> [N, 4·channels, H/stride, W/stride]."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
            if stride != 1 or in_channels != out_channels
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + shortcut)


class ResNet(nn.Module):
    """images float [N, 3, H, W] RGB in 0..1 -> logits [N, C]; features [N, 2048, H/32, W/32]."""

    def __init__(self, depths: tuple[int, int, int, int], spec: ClassifierSpec) -> None:
        super().__init__()
        self.normalize = PixelNorm(spec)
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _stage(64, 64, depths[0], stride=1)
        self.layer2 = _stage(256, 128, depths[1], stride=2)
        self.layer3 = _stage(512, 256, depths[2], stride=2)
        self.layer4 = _stage(1024, 512, depths[3], stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.fc = classification_head(512 * EXPANSION, spec)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(self.normalize(images))))  # [N, 64, H/2, W/2]
        x = self.layer1(self.maxpool(x))  # [N, 256, H/4, W/4]
        x = self.layer2(x)  # [N, 512, H/8, W/8]
        x = self.layer3(x)  # [N, 1024, H/16, W/16]
        return self.layer4(x)  # [N, 2048, H/32, W/32]

    def classify(self, features: Tensor) -> Tensor:
        """[N, 2048, h, w] -> logits [N, C]: mean over the places, linear."""
        return self.fc(features.mean(dim=(2, 3)))

    def activation_maps(self, features: Tensor) -> Tensor:
        """[N, 2048, h, w] -> [N, C, h, w]: the head at every place; the logits are the maps' mean."""
        return F.conv2d(features, self.fc.weight[:, :, None, None], self.fc.bias)


def resnet50(spec: ClassifierSpec) -> ResNet:
    return ResNet(RESNET50_DEPTHS, spec)


def _stage(in_channels: int, channels: int, depth: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride)
    others = (Bottleneck(EXPANSION * channels, channels, 1) for _ in range(depth - 1))
    return nn.Sequential(first, *others)
