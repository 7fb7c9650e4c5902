"""ResNets: torchvision's sizes and names."""

import torch

from shared.models.classifier import ClassifierSpec
from shared.models.resnet import BasicBlock, Bottleneck, ResNet, resnet18_slim, resnet18_slim_cbam, resnet50


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
    network = ResNet(Bottleneck, (1, 1, 1, 1), ClassifierSpec(classes=2)).eval()
    with torch.inference_mode():
        assert network.features(torch.rand(1, 3, 64, 96)).shape == (1, 2048, 2, 3)


def test_basic_blocks_at_full_width_are_torchvisions_resnet18():
    with torch.device("meta"):
        network = ResNet(BasicBlock, (2, 2, 2, 2), ClassifierSpec(classes=1000))
    assert sum(p.numel() for p in network.parameters()) == 11_689_512  # torchvision's weights metadata
    state = network.state_dict()
    assert len(state) == 122  # 20 convolutions, 20 × 5 of normalisation, 2
    assert tuple(state["layer2.0.downsample.0.weight"].shape) == (128, 64, 1, 1)
    assert tuple(state["layer4.1.conv2.weight"].shape) == (512, 512, 3, 3)


def test_the_slim_one_is_a_quarter_as_wide_and_takes_attention():
    plain, attentive = resnet18_slim(ClassifierSpec(classes=4)), resnet18_slim_cbam(ClassifierSpec(classes=4))
    assert tuple(plain.layer4[1].conv2.weight.shape) == (128, 128, 3, 3)
    added = attentive.state_dict().keys() - plain.state_dict().keys()
    assert {name.split(".")[0] for name in added} == {"cbam3", "cbam4"}
    images = torch.rand(2, 3, 64, 96)
    for network in (plain.eval(), attentive.eval()):
        with torch.inference_mode():
            features = network.features(images)
            assert features.shape == (2, 128, 2, 3)
            maps = network.activation_maps(features).mean(dim=(2, 3))
        torch.testing.assert_close(maps, network.classify(features), rtol=0, atol=1e-5)
