"""The loss: its terms by hand, its options, and windows without anything in them."""

import math

import pytest
import torch

from shared.families.events.decode import decode_cells
from shared.families.events.loss import EventTargets, loss

OBJECTS = torch.tensor([[[0.0, 28, 20, 10, 14], [1, 60, 40, 30, 40]], [[1, 50, 30, 20, 8], [0, 0, 0, 0, 0]]])


def random_maps(config, windows=2, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    values = 5 + len(config.classes)
    return tuple(
        (scale * torch.randn(windows, values, *size, generator=generator)).requires_grad_()
        for size in config.level_sizes
    )


def one_cell_maps(
    config, level=0, row=2, column=3, box=(0.5, 0.5, 0.0, 0.0), objectness=2.0, classes=(1.0, -1.0)
):
    """One window whose cells are sure that nothing is there, but for one."""
    maps = [torch.zeros(1, 7, *size) for size in config.level_sizes]
    for values in maps:
        values[:, 2:4] = -8  # boxes of no size
        values[:, 4:] = -30
    maps[level][0, :, row, column] = torch.tensor([*box, objectness, *classes])
    return tuple(maps)


def bce(logit, target):
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def test_the_terms_of_one_matched_cell_by_hand(small_config):
    config = small_config()
    # The cell of stride 8 at row 2, column 3 says 8 × 8 around (28, 20); the object is twice as high.
    maps = one_cell_maps(config)
    terms = loss(config, maps, EventTargets(torch.tensor([[[0.0, 28, 20, 8, 16]]])))
    iou = 0.5
    assert terms["loss_box"].item() == pytest.approx(5 * (1 - iou**2), abs=1e-5)
    assert terms["loss_objectness"].item() == pytest.approx(bce(2.0, 1), abs=1e-5)
    assert terms["loss_class"].item() == pytest.approx(bce(1.0, iou) + bce(-1.0, 0), abs=1e-5)
    assert set(terms) == {"loss", "loss_box", "loss_objectness", "loss_class"}
    parts = [value.item() for name, value in terms.items() if name != "loss"]
    assert terms["loss"].item() == pytest.approx(sum(parts), rel=1e-6)


def test_giou_counts_the_gap_of_the_hull(small_config):
    config = small_config(box_loss="giou")
    # 8 × 8 around (28, 20) against 8 × 8 around (32, 24): 16 shared, 112 in all, a hull of 12 × 12.
    terms = loss(config, one_cell_maps(config), EventTargets(torch.tensor([[[0.0, 32, 24, 8, 8]]])))
    giou = 16 / 112 - (144 - 112) / 144
    assert terms["loss_box"].item() == pytest.approx(5 * (1 - giou), abs=1e-5)


def test_l1_is_measured_on_raw_outputs(small_config):
    config = small_config(l1_weight=2.0)
    maps = one_cell_maps(config, box=(0.25, 0.5, 0.0, 0.0))
    terms = loss(config, maps, EventTargets(torch.tensor([[[0.0, 28, 20, 8, 16]]])))
    # The raw outputs should be 28/8 − 3, 20/8 − 2, log 1, log 2.
    assert terms["loss_l1"].item() == pytest.approx(2 * (0.25 + 0 + 0 + math.log(2)), abs=1e-5)


def test_every_term_is_divided_by_the_matches_of_the_whole_batch(small_config):
    config = small_config()
    one, objects = one_cell_maps(config), torch.tensor([[[0.0, 28, 20, 8, 16]]])
    twice = tuple(torch.cat([values, values]) for values in one)
    alone = loss(config, one, EventTargets(objects))
    both = loss(config, twice, EventTargets(objects.repeat(2, 1, 1)))
    for name, value in alone.items():
        torch.testing.assert_close(both[name], value)


def test_a_window_without_objects_adds_objectness_alone(small_config):
    config = small_config()
    maps = random_maps(config)
    terms = loss(config, maps, EventTargets(torch.zeros(2, 3, 5)))
    assert terms["loss_box"].item() == terms["loss_class"].item() == 0
    expected = sum(
        torch.nn.functional.softplus(values[:, 4]).sum().item() for values in maps
    )  # −log(1 − p), divided by one
    assert terms["loss_objectness"].item() == pytest.approx(expected, rel=1e-5)
    terms["loss"].backward()
    assert all(values.grad.isfinite().all() for values in maps)


@pytest.mark.parametrize("columns", [0, 1])
def test_targets_without_any_rows_or_beyond_every_cell_are_no_objects(small_config, columns):
    config = small_config(size_aware=32.0)
    objects = torch.zeros(2, columns, 5)
    if columns:
        objects[:] = torch.tensor([1.0, 900, 900, 10, 10])
    terms = loss(config, random_maps(config), EventTargets(objects))
    assert terms["loss_box"].item() == 0
    assert terms["loss"].isfinite()


def test_size_aware_weighs_objects_by_their_side_with_a_mean_of_one(small_config):
    tau = 20.0
    plain, aware = small_config(), small_config(size_aware=tau)
    # Two cells, far apart, each with an object of its own; sides 8 and 16.
    maps = one_cell_maps(plain)
    maps[0][0, :, 5, 9] = torch.tensor([0.5, 0.5, 0.0, 0.0, 2.0, -1.0, 1.0])
    objects = torch.tensor([[[0.0, 28, 20, 8, 8], [1, 76, 44, 16, 16]]])
    raw = [math.exp(-8 / tau), math.exp(-16 / tau)]
    small, large = (value / (sum(raw) / 2) for value in raw)
    iou = 64 / 256  # of the second; the first fits
    terms = loss(aware, maps, EventTargets(objects))
    assert terms["loss_box"].item() == pytest.approx(5 * large * (1 - iou**2) / 2, abs=1e-5)
    by_class = small * (bce(1.0, 1) + bce(-1.0, 0)) + large * (bce(-1.0, 0) + bce(1.0, iou))
    assert terms["loss_class"].item() == pytest.approx(by_class / 2, abs=1e-5)
    unweighted = loss(plain, maps, EventTargets(objects))
    torch.testing.assert_close(terms["loss_objectness"], unweighted["loss_objectness"])


def test_temporal_consistency_is_the_mean_squared_change_of_scores(small_config):
    config = small_config(temporal_consistency=3.0)
    maps = random_maps(config, windows=4)
    objects = torch.zeros(4, 1, 5)
    pairs = torch.tensor([[0, 2], [2, 3]])
    term = loss(config, maps, EventTargets(objects, pairs))["loss_temporal"].item()
    decoded = decode_cells(maps, config.level_strides)
    scores = decoded[..., 4:5] * decoded[..., 5:]
    changes = [(scores[b] - scores[a]).square().mean().item() for a, b in ((0, 2), (2, 3))]
    assert term == pytest.approx(3 * sum(changes) / 2, rel=1e-5)
    nothing = loss(config, maps, EventTargets(objects, pairs[:0]))
    assert nothing["loss_temporal"].item() == 0
    with pytest.raises(ValueError, match="which windows of the batch follow each other"):
        loss(config, maps, EventTargets(objects))


def test_what_is_switched_off_changes_nothing(small_config):
    """Options at their defaults, even with all that they would need, give the reference's terms exactly."""
    config = small_config()
    maps = random_maps(config)
    reference = loss(config, maps, EventTargets(OBJECTS))
    for options in ({"size_aware": None}, {"temporal_consistency": 0.0}, {"l1_weight": 0.0}):
        terms = loss(small_config(**options), maps, EventTargets(OBJECTS, torch.tensor([[0, 1]])))
        assert terms.keys() == reference.keys()
        assert all(torch.equal(terms[name], value) for name, value in reference.items())
    switched = {"size_aware": 8.0}, {"temporal_consistency": 1.0}, {"l1_weight": 1.0}, {"box_loss": "giou"}
    for options in switched:
        terms = loss(small_config(**options), maps, EventTargets(OBJECTS, torch.tensor([[0, 1]])))
        assert not torch.equal(terms["loss"], reference["loss"])


def test_four_levels_are_matched_at_their_strides(small_config):
    config = small_config(scales=4)
    maps = one_cell_maps(config, level=0, row=5, column=7)  # stride 4: a box of 4 × 4 around (30, 22)
    terms = loss(config, maps, EventTargets(torch.tensor([[[0.0, 30, 22, 4, 4]]])))
    assert terms["loss_box"].item() == pytest.approx(0, abs=1e-5)


def test_it_is_computed_in_single_precision(small_config):
    config = small_config()
    maps = random_maps(config, scale=3.0)
    halves = tuple(values.detach().half() for values in maps)
    expected = loss(config, tuple(values.float() for values in halves), EventTargets(OBJECTS))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(config, halves, EventTargets(OBJECTS))
    assert {name: value.item() for name, value in terms.items()} == {
        name: value.item() for name, value in expected.items()
    }


def test_a_training_step_can_see_a_loss_that_is_not_a_number(small_config):
    config = small_config()
    maps = tuple(values.detach() * math.nan for values in random_maps(config))
    assert loss(config, maps, EventTargets(OBJECTS))["loss"].isnan()


def test_gradients_reach_every_level(small_config):
    config = small_config()
    maps = random_maps(config)
    loss(config, maps, EventTargets(OBJECTS))["loss"].backward()
    assert all(values.grad.abs().sum() > 0 for values in maps)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ([2.0, 28, 20, 10, 14], "class in 0..1"),
        ([-1.0, 28, 20, 10, 14], "class in 0..1"),
        ([0.5, 28, 20, 10, 14], "class in 0..1"),
        ([0.0, 28, 20, 0, 14], "w, h > 0"),
        ([0.0, 28, 20, 10, math.nan], "window 1 of the batch"),
    ],
)
def test_targets_that_cannot_be_are_refused(small_config, row, told):
    objects = OBJECTS.clone()
    objects[1, 1] = torch.tensor(row)
    with pytest.raises(ValueError, match=told):
        loss(small_config(), random_maps(small_config()), EventTargets(objects))


@pytest.mark.parametrize("shape", [(1, 2, 5), (2, 2, 4), (2, 5)])
def test_targets_of_another_shape_are_refused(small_config, shape):
    with pytest.raises(ValueError, match=r"targets are \[2, objects, 5\]"):
        loss(small_config(), random_maps(small_config()), EventTargets(torch.zeros(shape)))
