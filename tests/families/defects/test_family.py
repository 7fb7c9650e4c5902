"""The defects family as training and export use it."""

import numpy as np
import pytest
import torch

from shared.families import ClassificationFamily, get_family
from shared.families.defects.config import DefectsConfig
from shared.losses.bce import BinaryCrossEntropy
from shared.losses.focal import FocalLoss

FAMILY = get_family("defects")


def small(**options):
    return DefectsConfig(**{"architecture": "convnext_zepto_cbam", "height": 64, "width": 96, **options})


def test_a_network_answers_one_logit_per_class_and_decode_makes_probabilities_of_them():
    assert isinstance(FAMILY, ClassificationFamily)
    config = small(class_names=["pit", "scratch", "crack"])
    network = FAMILY.build(config).eval()
    height, width = FAMILY.input_size(config)
    with torch.inference_mode():
        logits = network(torch.rand(2, 3, height, width))
    assert logits.shape == (2, 3)
    assert FAMILY.class_names(config) == ["pit", "scratch", "crack"]
    # ln 3 is the logit of three to one
    assert FAMILY.decode(config, torch.tensor([[np.log(3), 0.0]]))[0].tolist() == pytest.approx([0.75, 0.5])


def test_options_reach_the_network():
    config = small(spatial_gate_norm="batch", layer_scale=0.125, stochastic_depth=0.5, normalize="none")
    network = FAMILY.build(config)
    assert isinstance(network.features.cbam3.spatial.norm, torch.nn.BatchNorm2d)
    assert network.features[1][0].layer_scale.unique().tolist() == [0.125]
    assert network.features.get_submodule("7.1").stochastic_depth.probability == 0.5
    assert network.features[0][0].mean.tolist() == [0, 0, 0]
    prior = FAMILY.build(small(prior=0.01)).classifier[2].bias
    assert torch.sigmoid(prior).tolist() == pytest.approx([0.01] * 4)


def test_the_same_seed_builds_the_same_network():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(FAMILY.build(small()).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_loss_is_the_one_named_and_knows_the_training_split():
    counts = np.array([897, 247, 5150, 801])
    focal = FAMILY.build_loss(small(gamma=1.5, negative_floor=0.1), counts, 12_568)
    assert isinstance(focal, FocalLoss)
    assert (focal.gamma, focal.negative_floor) == (1.5, 0.1)
    assert focal.alpha.tolist() == pytest.approx((1 - counts / 12_568).tolist())
    assert isinstance(FAMILY.build_loss(small(loss="bce"), counts, 12_568), BinaryCrossEntropy)


def test_counts_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="2 class counts came for the 4 classes 1, 2, 3, 4"):
        FAMILY.build_loss(small(), np.array([1, 2]), 10)


@pytest.mark.parametrize("loss", ["focal", "bce"])
def test_a_few_steps_learn_a_dozen_pictures(loss):
    torch.manual_seed(0)
    config = small(loss=loss, layer_scale=0.1, height=32, width=32, class_names=["bright", "striped"])
    labels = torch.tensor([[n % 2, n // 2 % 2] for n in range(12)]).float()
    images = 0.3 + 0.05 * torch.rand(12, 3, 32, 32) + 0.3 * labels[:, 0].view(12, 1, 1, 1)
    images[:, :, ::4] += 0.3 * labels[:, 1].view(12, 1, 1, 1)
    network, criterion = FAMILY.build(config), FAMILY.build_loss(config, labels.sum(0).long().numpy(), 12)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    first = None
    for _ in range(25):
        terms = criterion(network(images), labels)
        first = first if first is not None else terms["loss"].item()
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
    assert terms["loss"].item() < first / 10
    with torch.inference_mode():
        assert torch.equal(FAMILY.decode(config, network.eval()(images)) >= 0.5, labels.bool())
