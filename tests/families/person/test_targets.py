"""Targets worked out by hand, and that decoding them gives the boxes back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.families import get_family
from shared.families.person.config import PersonConfig
from shared.families.person.targets import encode_targets

PERSON = get_family("person")


def encode(config, *pictures, size=416):
    boxes = [torch.tensor(rows, dtype=torch.float32).reshape(-1, 4) for rows in pictures]
    return encode_targets(
        config, boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes], (size, size)
    )


def test_the_cell_of_the_centre_is_responsible_and_holds_the_offsets():
    targets = encode(PersonConfig(grid_size=13), [[100, 64, 140, 176]])
    # Cells of 32 pixels: centre (120, 120) is 3.75 cells right and 3.75 down; size 40 × 112 of 416.
    level = targets.levels[0]
    assert level.responsible.nonzero().tolist() == [[0, 3, 3]]
    assert level.cells[0, 3, 3].tolist() == pytest.approx([0.75, 0.75, 40 / 416, 112 / 416])
    assert level.cells.sum().item() == pytest.approx(level.cells[0, 3, 3].sum().item())  # all else is zero
    assert (targets.box_count, targets.collisions) == (1, 0)


def test_rows_are_down_and_columns_are_right():
    targets = encode(PersonConfig(grid_size=26), [[0, 160, 20, 200]], [[300, 0, 340, 20]])
    assert targets.levels[0].responsible.nonzero().tolist() == [[0, 11, 0], [1, 0, 20]]


def test_of_two_centres_in_one_cell_the_larger_box_wins_and_the_other_is_counted():
    small, large = [100, 100, 120, 140], [80, 60, 141, 181]  # centres (110, 120) and (110.5, 120.5)
    for order in ([small, large], [large, small]):
        targets = encode(PersonConfig(grid_size=13), order)
        assert targets.collisions == 1
        assert targets.levels[0].cells[0, 3, 3, 2:].tolist() == pytest.approx([61 / 416, 121 / 416])


def test_equal_boxes_in_one_cell_the_first_wins():
    targets = encode(
        PersonConfig(grid_size=13), [[100, 100, 120, 140], [101, 101, 121, 141], [98, 98, 118, 138]]
    )
    assert targets.collisions == 2
    assert targets.levels[0].cells[0, 3, 3, 0].item() == pytest.approx(110 / 32 - 3)


def test_the_same_cell_of_two_pictures_is_no_collision():
    assert encode(PersonConfig(), [[100, 100, 120, 140]], [[100, 100, 120, 140]]).collisions == 0


def test_a_centre_on_the_far_edge_belongs_to_the_last_cell():
    level = encode(PersonConfig(grid_size=13), [[400, 400, 432, 432]]).levels[0]
    assert level.responsible.nonzero().tolist() == [[0, 12, 12]]
    assert level.cells[0, 12, 12, :2].tolist() == [1, 1]


def test_cells_that_a_region_to_ignore_touches_are_uncertain():
    # Cells of 32 pixels: the region reaches over columns 3 and 4 and, ending on an edge, row 2 alone.
    region = torch.tensor([[120.0, 70, 130, 96]])
    boxes, labels = [torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2
    size = (416, 416)
    targets = encode_targets(PersonConfig(grid_size=13), boxes, labels, size, [torch.zeros(0, 4), region])
    assert targets.levels[0].uncertain.nonzero().tolist() == [[1, 2, 3], [1, 2, 4]]
    assert not targets.levels[0].responsible.any()
    assert not encode(PersonConfig(), [[100, 100, 120, 140]]).levels[0].uncertain.any()


def test_pictures_without_people_have_empty_targets():
    targets = encode(PersonConfig(), [], [])
    assert targets.levels[0].responsible.shape == (2, 26, 26)
    assert not targets.levels[0].responsible.any()
    assert (targets.box_count, targets.collisions) == (0, 0)


@pytest.mark.parametrize(("longer_side", "level"), [(63, 0), (64, 1), (127, 1), (128, 2), (400, 2)])
def test_multi_scale_sends_a_box_to_the_level_of_its_longer_side(longer_side, level):
    targets = encode(PersonConfig(multi_scale=True), [[4, 4, 24, 4 + longer_side]])
    assert [bool(each.responsible.any()) for each in targets.levels] == [level == i for i in range(3)]
    assert [each.responsible.shape[-1] for each in targets.levels] == [52, 26, 13]


@pytest.mark.parametrize(
    "box",
    [[50, 50, 50, 90], [50, 50, 40, 90], [500, 500, 600, 600], [float("nan"), 0, 10, 10]],
    ids=["no width", "inside out", "outside", "not a number"],
)
def test_a_box_that_cannot_be_a_target_is_refused_by_name(box):
    with pytest.raises(ValueError, match="picture 1 of the batch has the box"):
        encode(PersonConfig(), [[10, 10, 20, 20]], [box])


def test_other_labels_than_person_are_refused():
    with pytest.raises(ValueError, match=r"given the labels \[0, 2\]"):
        encode_targets(
            PersonConfig(),
            [torch.tensor([[1.0, 1, 9, 9], [20, 20, 30, 30]])],
            [torch.tensor([0, 2])],
            (64, 64),
        )


def test_targets_move_to_a_device_whole():
    targets = encode(PersonConfig(multi_scale=True), [[10, 10, 40, 90], [10, 10, 40, 91]]).to("meta")
    assert {level.cells.device.type for level in targets.levels} == {"meta"}
    assert {level.responsible.device.type for level in targets.levels} == {"meta"}
    assert {level.uncertain.device.type for level in targets.levels} == {"meta"}
    assert (targets.box_count, targets.collisions) == (2, 1)


side = st.floats(4, 200)
centre = st.floats(0, 415)


@settings(max_examples=60)
@given(
    people=st.lists(st.tuples(centre, centre, side, side), min_size=1, max_size=12),
    grid_size=st.sampled_from([13, 26, 32, 52]),
    multi_scale=st.booleans(),
)
def test_decoding_the_targets_gives_every_placed_box_back(people, grid_size, multi_scale):
    config = PersonConfig(grid_size=grid_size, multi_scale=multi_scale)
    boxes = [[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2] for cx, cy, w, h in people]
    targets = encode(config, boxes)
    perfect = tuple(
        torch.cat([level.cells, level.responsible.unsqueeze(-1).float()], dim=-1) for level in targets.levels
    )
    decoded, scores, labels = PERSON.decode(config, perfect if multi_scale else perfect[0])

    found = decoded[0][scores[0] == 1]
    assert len(found) == len(boxes) - targets.collisions
    distance = (found[:, None] - torch.tensor(boxes)[None]).abs().amax(dim=-1)  # [found, given]
    assert distance.amin(dim=1).max().item() < 0.01  # pixels
    assert not labels.any()
