"""The person loss against terms worked out by hand, and its gradient at the edges."""

import math

import pytest
import torch

from shared.families import get_family
from shared.families.person.config import PersonConfig

PERSON = get_family("person")
TERMS = ["loss_xy", "loss_wh", "loss_obj_pos", "loss_obj_neg"]


def config(**options):
    return PersonConfig(**{"image_size": 64, "grid_size": 4, "depth": "light", **options})


def targets_of(options, *pictures):
    boxes = [torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) for rows in pictures]
    return PERSON.encode_targets(
        options, boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes], (64, 64)
    )


def test_cells_in_a_region_to_ignore_are_no_background_and_a_labelled_person_in_it_still_counts():
    options = config(lambda_noobj=0.3)
    everything = torch.tensor([[0.0, 0, 64, 64]])
    targets = PERSON.encode_targets(
        options, [torch.tensor([BOX]).float()], [torch.zeros(1, dtype=torch.int64)], (64, 64), [everything]
    )
    terms = PERSON.loss(options, grid_with([0.5, 0.5, 0.25, 0.5, 0.8], batch=1), targets)
    assert terms["loss_obj_neg"].item() == 0
    assert terms["loss_obj_pos"].item() == pytest.approx(-math.log(0.8), rel=1e-5)


# One person, 16 × 32 pixels around (24, 40): cell (row 2, column 1), offsets 0.5, 0.5, sizes 0.25, 0.5.
BOX = [16, 24, 32, 56]


def grid_with(cell, elsewhere=0.1, batch=2):
    """Every cell with objectness `elsewhere`, but for the responsible one in the first picture."""
    grid = torch.full((batch, 4, 4, 5), 0.5)
    grid[..., 4] = elsewhere
    grid[0, 2, 1] = torch.tensor(cell)
    return grid


@pytest.mark.parametrize(
    ("size_loss", "expected_wh"),
    [
        ("squared", (0.36**2 - 0.25**2) ** 2 + (0.49**2 - 0.5**2) ** 2),
        ("sqrt", (0.6 - 0.5) ** 2 + (0.7 - math.sqrt(0.5)) ** 2),
    ],
)
def test_every_term_equals_the_hand_calculation(size_loss, expected_wh):
    options = config(size_loss=size_loss, lambda_coord=7.0, lambda_noobj=0.3)
    terms = PERSON.loss(options, grid_with([0.7, 0.4, 0.36, 0.49, 0.8]), targets_of(options, [BOX], []))
    # Batch of two: sums are halved. One responsible cell, 31 empty ones at 0.1.
    assert terms["loss_xy"].item() == pytest.approx(7 * (0.2**2 + 0.1**2) / 2, rel=1e-5)
    assert terms["loss_wh"].item() == pytest.approx(7 * expected_wh / 2, rel=1e-4)
    assert terms["loss_obj_pos"].item() == pytest.approx(-math.log(0.8) / 2, rel=1e-5)
    assert terms["loss_obj_neg"].item() == pytest.approx(0.3 * 31 * -math.log(0.9) / 2, rel=1e-5)
    assert terms["loss"].item() == pytest.approx(sum(terms[name].item() for name in TERMS), rel=1e-6)
    assert set(terms) == {"loss", *TERMS}


def test_ciou_compares_the_whole_decoded_box():
    options = config(size_loss="ciou")
    # The right size, moved by a quarter of a cell (4 of 64 pixels) to the right: intersection 12 × 32,
    # union 2 · 16 · 32 − 384 = 640, enclosing 20 × 32, same shape.
    terms = PERSON.loss(options, grid_with([0.75, 0.5, 0.25, 0.5, 0.8]), targets_of(options, [BOX], []))
    expected = 1 - 384 / 640 + 4**2 / (20**2 + 32**2)
    assert terms["loss_wh"].item() == pytest.approx(5 * expected / 2, rel=1e-4)


@pytest.mark.parametrize("size_loss", ["squared", "sqrt", "ciou"])
def test_a_perfect_prediction_costs_nothing(size_loss):
    options = config(size_loss=size_loss)
    targets = targets_of(options, [BOX, [40, 4, 52, 28]], [])
    level = targets.levels[0]
    perfect = torch.cat([level.cells, level.responsible.unsqueeze(-1).float()], dim=-1)
    assert PERSON.loss(options, perfect, targets)["loss"].item() == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("size_loss", ["squared", "sqrt", "ciou"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_gradients_are_finite_where_the_sigmoid_saturates(size_loss, value):
    options = config(size_loss=size_loss)
    grid = torch.full((1, 4, 4, 5), value, requires_grad=True)
    loss = PERSON.loss(options, grid, targets_of(options, [BOX]))["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(grid.grad).all()


@pytest.mark.parametrize("size_loss", ["squared", "sqrt", "ciou"])
@pytest.mark.parametrize("multi_scale", [False, True])
def test_a_step_against_the_gradient_lowers_the_loss(size_loss, multi_scale):
    torch.manual_seed(0)
    options = config(size_loss=size_loss, multi_scale=multi_scale)
    network = PERSON.build(options)
    images, targets = (
        torch.rand(4, 3, 64, 64),
        targets_of(options, [BOX], [], [[2, 2, 20, 30]], [[1, 1, 63, 63]]),
    )
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        terms = PERSON.loss(options, network(images), targets)
        optimiser.zero_grad()
        terms["loss"].backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
        optimiser.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.9 * losses[0]


def test_empty_pictures_teach_only_emptiness():
    options = config(size_loss="ciou")
    grid = grid_with([0.5, 0.5, 0.5, 0.5, 0.1]).requires_grad_()
    terms = PERSON.loss(options, grid, targets_of(options, [], []))
    assert [terms[name].item() for name in TERMS[:3]] == [0, 0, 0]
    assert terms["loss_obj_neg"].item() == pytest.approx(0.5 * 32 * -math.log(0.9) / 2, rel=1e-5)
    terms["loss"].backward()
    assert not grid.grad[..., :4].any()


def test_mixed_precision_gives_a_float32_loss():
    options = config()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = PERSON.loss(
            options, PERSON.build(options)(torch.rand(1, 3, 64, 64)), targets_of(options, [BOX])
        )
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_targets_of_another_config_are_refused():
    with pytest.raises(ValueError, match="gave 1 levels and the targets have 3"):
        PERSON.loss(config(), torch.rand(1, 4, 4, 5), targets_of(config(multi_scale=True), [BOX]))
