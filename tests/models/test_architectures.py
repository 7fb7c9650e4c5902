"""The architectures by name: what is said of them is so."""

import re

import pytest
import torch

from shared.models.architectures import ARCHITECTURES
from shared.models.classifier import ClassifierSpec


@pytest.mark.parametrize("name", ARCHITECTURES.names("classification"))
def test_every_classifier_builds_and_has_the_parameters_that_its_line_states(name):
    with torch.device("meta"):
        network = ARCHITECTURES.load(name)(ClassifierSpec(classes=4))
    assert all(hasattr(network, part) for part in ("features", "classify", "activation_maps"))
    millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    stated = re.search(r"([\d.]+) M parameters", ARCHITECTURES.entry(name).summary)
    assert (stated is None) == name.endswith("_cbam")
    if stated:
        assert float(stated[1]) == round(millions, 1)


def test_every_detection_network_can_be_loaded():
    assert all(callable(ARCHITECTURES.load(name)) for name in ARCHITECTURES.names("detection"))
