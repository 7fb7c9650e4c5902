"""ConvNeXt: published sizes, torchvision's names and function, and maps that add up to the logits."""

import pytest
import torch
import torch.nn.functional as F

from shared.models.architectures import ARCHITECTURES
from shared.models.classifier import IMAGENET_MEAN, IMAGENET_STD, ClassifierSpec
from shared.models.convnext import Block, LayerNorm2d, StochasticDepth, convnext_tiny, convnext_tiny_cbam
from shared.models.resnet import Bottleneck, ResNet


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def small(name="convnext_zepto_cbam", **options):
    torch.manual_seed(0)
    spec = ClassifierSpec(**{"classes": 4, "layer_scale": 0.3, **options})
    if name == "resnet":  # one block a stage: the same code in a quarter of the time
        return ResNet(Bottleneck, (1, 1, 1, 1), spec).eval()
    return ARCHITECTURES.load(name)(spec).eval()


def test_tiny_has_torchvisions_parameters_less_those_of_its_head():
    # torchvision's convnext_tiny: 28,589,128, of which Linear(768, 1000)
    with torch.device("meta"):
        network = convnext_tiny(ClassifierSpec(classes=1000))
    assert count(network) == 28_589_128
    assert count(network) - count(network.classifier[2]) == 27_820_128


def test_tiny_with_attention_and_four_classes_has_the_specs_parameters():
    with torch.device("meta"):
        network = convnext_tiny_cbam(ClassifierSpec(classes=4))
    assert count(network) == 27_916_788
    assert (count(network.features.cbam3), count(network.features.cbam4)) == (18_940, 74_644)


def test_names_and_shapes_are_torchvisions():
    with torch.device("meta"):
        network = convnext_tiny(ClassifierSpec(classes=4))
    state = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    expected = {
        "features.0.0.weight": (96, 3, 4, 4),
        "features.0.1.bias": (96,),
        "features.1.0.layer_scale": (96, 1, 1),
        "features.1.2.block.0.weight": (96, 1, 7, 7),
        "features.2.0.weight": (96,),
        "features.2.1.weight": (192, 96, 2, 2),
        "features.5.8.block.2.bias": (384,),
        "features.5.8.block.3.weight": (1536, 384),
        "features.7.2.block.5.weight": (768, 3072),
        "classifier.0.weight": (768,),
        "classifier.2.weight": (4, 768),
    }
    assert expected.items() <= state.items()
    # 4 of the stem, 9 a block, 4 a downsampling, 2 + 2 of the classifier; pixel statistics are not saved
    assert len(state) == 4 + 18 * 9 + 3 * 4 + 4


def test_attention_adds_names_and_changes_none():
    plain, attended = (set(small(name).state_dict()) for name in ("convnext_zepto", "convnext_zepto_cbam"))
    added = attended - plain
    assert plain < attended
    assert {name.rpartition(".cbam")[0] for name in added} == {"features"}


def test_a_block_computes_what_torchvisions_does():
    torch.manual_seed(1)
    block = Block(8, 0.5, 0.0).double()
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    depthwise, _, norm, widen, _, narrow = block.block
    y = depthwise(x).permute(0, 2, 3, 1)
    y = F.layer_norm(y, (8,), norm.weight, norm.bias, 1e-6)
    y = F.linear(F.gelu(F.linear(y, widen.weight, widen.bias)), narrow.weight, narrow.bias)
    torch.testing.assert_close(block(x), x + block.layer_scale * y.permute(0, 3, 1, 2))


def test_layer_norm_2d_normalises_the_channels_of_each_place():
    y = LayerNorm2d(16)(torch.randn(2, 16, 3, 4) * 5 + 2)
    torch.testing.assert_close(y.mean(dim=1), torch.zeros(2, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(dim=1, unbiased=False), torch.ones(2, 3, 4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["convnext_zepto", "resnet"])
def test_the_network_normalises_pixels_itself(name):
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    inside, outside = small(name), small(name, normalize="none")
    with torch.inference_mode():
        torch.testing.assert_close(inside(images), outside((images - mean) / std), atol=1e-4, rtol=1e-4)
        assert not torch.allclose(inside(images), outside(images), atol=1e-3)


@pytest.mark.parametrize("name", ["convnext_zepto", "convnext_zepto_cbam", "resnet"])
def test_activation_maps_have_the_logits_as_their_mean(name):
    network = small(name)
    with torch.no_grad():
        for parameter in network.parameters():  # away from zero biases and unit scales
            parameter.add_(0.05 * torch.randn_like(parameter))
    images = torch.rand(2, 3, 64, 96)
    with torch.inference_mode():
        features = network.features(images)
        maps, logits = network.activation_maps(features), network(images)
    assert features.shape[-2:] == maps.shape[-2:] == (2, 3)
    torch.testing.assert_close(maps.mean(dim=(2, 3)), logits, atol=1e-5, rtol=1e-5)
    assert maps.std(dim=(2, 3)).min() > 1e-4  # places differ
    torch.testing.assert_close(network.classify(features), logits)


def test_a_picture_does_not_depend_on_its_batch():
    network, images = small(), torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(images)[1:2], network(images[1:2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("prior", [0.5, 0.02])
def test_an_untrained_head_answers_about_its_prior(prior):
    with torch.inference_mode():
        p = torch.sigmoid(small(prior=prior)(torch.rand(2, 3, 64, 64)))
    assert p.mean().item() == pytest.approx(prior, rel=0.5)


def test_every_parameter_is_trained():
    network = small().train()
    network(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    assert all(p.grad.abs().max() > 0 for n, p in network.named_parameters() if not n.endswith("conv.weight"))


def test_stochastic_depth_skips_whole_pictures_and_keeps_the_expectation():
    torch.manual_seed(0)
    drop, x = StochasticDepth(0.25).train(), torch.ones(4000, 2, 1, 1)
    y = drop(x)
    assert y.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(drop.eval()(x), x)


def test_the_chance_of_skipping_rises_from_zero_to_the_last_block():
    network = small("convnext_zepto", stochastic_depth=0.3)
    chances = [m.probability for m in network.modules() if isinstance(m, StochasticDepth)]
    assert chances == pytest.approx([0.3 * number / 9 for number in range(10)])


def test_a_classifier_without_classes_is_refused():
    with pytest.raises(ValueError, match="at least one class, not 0"):
        ClassifierSpec(classes=0)


@pytest.mark.parametrize(
    ("initial_weights", "widen", "stem"), [("normal", 0.02, 0.02), ("fan_in", 64**-0.5, 48**-0.5)]
)
def test_the_first_weights_have_the_deviation_that_was_asked_for(initial_weights, widen, stem):
    network = small("convnext_pico", initial_weights=initial_weights)
    assert network.features[1][0].block[3].weight.std().item() == pytest.approx(widen, rel=0.05)
    assert network.features[0][0].weight.std().item() == pytest.approx(stem, rel=0.05)
