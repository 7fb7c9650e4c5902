"""ResNet-50: torchvision's size and names."""

import torch

from shared.models.classifier import ClassifierSpec
from shared.models.resnet import ResNet, resnet50


def test_size_and_names_are_torchvisions():
    with torch.device("meta"):
        network = resnet50(ClassifierSpec(classes=1000))
    assert sum(p.numel() for p in network.parameters()) == 25_557_032  # torchvision's weights metadata
    state = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv2.weight": (128, 128, 3, 3),
        "layer3.5.bn3.num_batches_tracked": (),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
        "fc.weight": (1000, 2048),
    }
    assert expected.items() <= state.items()
    assert len(state) == 320  # as torchvision's: 53 convolutions, 53 × 5 of normalisation, 2


def test_the_last_map_has_stride_32():
    network = ResNet((1, 1, 1, 1), ClassifierSpec(classes=2)).eval()
    with torch.inference_mode():
        assert network.features(torch.rand(1, 3, 64, 96)).shape == (1, 2048, 2, 3)
