"""The official network's sizes, names and numbers (events spec, sections 1, 12 and 13)."""

import importlib.util
from pathlib import Path

import pytest
import torch

from shared.families.events import load_rvt_state
from shared.families.events.assignment import assign
from shared.families.events.config import EventsConfig
from shared.families.events.decode import cell_grid, decode_cells, flatten_levels
from shared.families.events.family import EVENTS
from shared.families.events.loss import EventTargets

HERE = Path(__file__).parent


def sibling(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden, vectors = sibling("golden"), sibling("golden_vectors")

PARAMETERS = {  # whole network, backbone, pyramid, head, tensors of the state dict
    ("tiny", "gen1"): (4_405_141, 3_220_032, 710_784, 474_325, 376),
    ("tiny", "gen4"): (4_405_336, 3_220_032, 710_784, 474_520, 376),
    ("small", "gen1"): (9_870_165, 7_209_312, 1_596_096, 1_064_757, 376),
    ("small", "gen4"): (9_870_456, 7_209_312, 1_596_096, 1_065_048, 376),
    ("base", "gen1"): (18_536_469, 12_784_768, 3_860_992, 1_890_709, 424),
    ("base", "gen4"): (18_536_856, 12_784_768, 3_860_992, 1_891_096, 424),
}


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(("size", "sensor"), PARAMETERS)
def test_parameter_counts_are_the_official_ones(size, sensor):
    with torch.device("meta"):
        network = EVENTS.build(EventsConfig(size=size, sensor=sensor))
    parts = (count(network), count(network.backbone), count(network.fpn), count(network.yolox_head))
    assert (*parts, len(network.state_dict())) == PARAMETERS[size, sensor]


def test_names_and_shapes_are_the_official_ones():
    with torch.device("meta"):
        network = EVENTS.build(EventsConfig(size="tiny", sensor="gen1"))
    ours = {name: str(list(tensor.shape)) for name, tensor in network.state_dict().items()}
    rows = (HERE / "rvt_tiny_gen1.tsv").read_text().splitlines()
    assert len(rows) == 376
    assert ours == dict(row.split("\t") for row in rows)


@pytest.fixture(scope="module")
def network():
    network = EVENTS.build(EventsConfig(size="tiny", sensor="gen1")).eval()
    load_rvt_state(network, golden.golden_state(network))
    return network


@pytest.fixture(scope="module")
def histograms():
    counts = golden.golden_input(256, 320)
    assert counts.sum().item() == vectors.INPUT_SUM
    return counts


@pytest.fixture(scope="module")
def steps(network, histograms):
    """Three windows with carried state."""
    states, steps = None, []
    with torch.inference_mode():
        for number in range(len(vectors.FRAMES)):
            decoded, states = network.step(torch.roll(histograms, 7 * number, dims=3), states)
            steps.append((decoded, states))
    return steps


@pytest.mark.parametrize("number", range(len(vectors.FRAMES)))
def test_golden_vectors(steps, number):
    decoded, states = steps[number]
    whole, first, last, middle, hidden, cell = vectors.FRAMES[number]
    assert decoded.shape == (2, 1680, 7)
    assert (decoded.mean().item(), decoded.std().item()) == pytest.approx(whole, abs=2e-4)
    # Published with four decimals; coordinates are hundreds of pixels.
    for cells, expected in ((decoded[0, 0], first), (decoded[1, -1], last), (decoded[0, 333], middle)):
        assert cells.tolist() == pytest.approx(expected, abs=2e-4)
    for index, (h, c) in enumerate(states):
        assert (h.mean().item(), h.std().item()) == pytest.approx(hidden[index], abs=2e-5)
        assert (c.mean().item(), c.std().item()) == pytest.approx(cell[index], abs=2e-5)


def test_golden_loss_and_gradient_in_training(network, histograms):
    config = EventsConfig(size="tiny", sensor="gen1")
    targets = torch.tensor(vectors.TARGETS, dtype=torch.float32)
    network.train()
    try:
        features, _ = network.recur(histograms)
        maps = network.detect(features)
        terms = EVENTS.loss(config, maps, EventTargets(targets))
        terms["loss"].backward()
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    finally:
        network.eval()
        network.zero_grad(set_to_none=True)
        network.load_state_dict(golden.golden_state(network), strict=False)  # BatchNorm has moved

    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        vectors.LOSSES, abs=6e-5, rel=1e-6
    )
    assert all(gradient is not None for gradient in gradients.values())
    squares = sum(gradient.double().square().sum().item() for gradient in gradients.values())
    assert squares**0.5 == pytest.approx(vectors.GRADIENT_NORM, rel=1e-5)

    raw, decoded = flatten_levels(maps).detach(), decode_cells(maps, config.level_strides).detach()
    grid, strides = cell_grid(maps, config.level_strides)
    matched = 0
    for n, rows in enumerate(targets):
        rows = rows[rows.sum(dim=1) > 0]
        scores = raw[n, :, 4], raw[n, :, 5:]
        matched += len(
            assign(decoded[n, :, :4], *scores, grid, strides, rows[:, 1:], rows[:, 0].long()).cells
        )
    assert matched / (targets.sum(dim=2) > 0).sum().item() == vectors.FOREGROUND_PER_OBJECT
