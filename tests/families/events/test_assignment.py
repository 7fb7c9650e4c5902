"""SimOTA against cases worked out by hand and against a slow, literal version in plain loops."""

import math

import numpy as np
import pytest
import torch

from shared.families.events.assignment import assign
from shared.families.events.decode import cell_grid


def simota_slowly(boxes, objectness, classes, grid, strides, true_boxes, true_classes):
    """Components spec, section 1, pair by pair: {cell: (object, IoU)}, contested cells."""

    def iou(a, b):
        (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
        across = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
        along = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
        shared = max(across, 0) * max(along, 0)
        return shared / (aw * ah + bw * bh - shared)

    def sigmoid(v):
        return 1 / (1 + math.exp(-v))

    def in_centre(g, a):
        x, y = ((grid[a][axis] + 0.5) * strides[a] for axis in (0, 1))
        near = 1.5 * strides[a]
        return abs(x - true_boxes[g][0]) < near and abs(y - true_boxes[g][1]) < near

    objects = range(len(true_boxes))
    cells = [a for a in range(len(boxes)) if any(in_centre(g, a) for g in objects)]
    ious = {(g, a): iou(true_boxes[g], boxes[a]) for g in objects for a in cells}
    cost = {}
    for g in objects:
        for a in cells:
            bce = 0.0
            for c, logit in enumerate(classes[a]):
                p = math.sqrt(sigmoid(logit) * sigmoid(objectness[a]))
                bce -= math.log(p) if c == true_classes[g] else math.log(1 - p)
            cost[g, a] = bce - 3 * math.log(ious[g, a] + 1e-8) + 1e6 * (not in_centre(g, a))
    takers = {}
    for g in objects:
        best = sorted((ious[g, a] for a in cells), reverse=True)[: min(10, len(cells))]
        k = max(int(sum(best)), 1)
        for a in sorted(cells, key=lambda a: cost[g, a])[:k]:
            takers.setdefault(a, []).append(g)
    matches = {}
    for a, rivals in takers.items():
        g = rivals[0] if len(rivals) == 1 else min(objects, key=lambda g: cost[g, a])
        matches[a] = (g, ious[g, a])
    return matches, sum(len(rivals) > 1 for rivals in takers.values())


def grids(sizes, strides):
    return cell_grid([torch.zeros(1, 1, *size) for size in sizes], strides)


def test_it_agrees_with_the_slow_version_on_crowded_windows():
    grid, strides = grids([(8, 12), (4, 6), (2, 3)], (8, 16, 32))
    contested = 0
    for seed in range(25):
        draw = np.random.default_rng(seed)
        count = int(draw.integers(1, 12))
        centres = (grid.double().numpy() + 0.5) * strides.numpy()[:, None]
        boxes = np.concatenate(
            [centres + draw.normal(0, 4, centres.shape), draw.uniform(8, 48, centres.shape)], 1
        )
        objectness, classes = draw.normal(0, 2, len(boxes)), draw.normal(0, 2, (len(boxes), 3))
        true_boxes = np.concatenate(
            [draw.uniform([0, 0], [96, 64], (count, 2)), draw.uniform(6, 50, (count, 2))], 1
        )
        true_classes = draw.integers(0, 3, count)
        arguments = (boxes, objectness, classes, grid.double(), strides.double(), true_boxes)
        expected, rivalries = simota_slowly(
            *(np.asarray(argument).tolist() for argument in arguments), true_classes.tolist()
        )
        found = assign(*(torch.as_tensor(argument) for argument in (*arguments, true_classes)))
        assert dict(zip(found.cells.tolist(), found.objects.tolist(), strict=True)) == {
            cell: g for cell, (g, _) in expected.items()
        }
        ious = [expected[cell][1] for cell in found.cells.tolist()]
        assert found.iou.tolist() == pytest.approx(ious, abs=1e-9)
        contested += rivalries
    assert contested > 10  # else nothing of the contest between objects was compared


def one_level(rows, columns, stride=8):
    """A level whose boxes are its own cells; all scores alike."""
    grid, strides = grids([(rows, columns)], (stride,))
    centres = (grid + 0.5) * stride
    boxes = torch.cat([centres, torch.full_like(centres, stride)], dim=1)
    return boxes, torch.zeros(len(boxes)), torch.zeros(len(boxes), 2), grid, strides


def test_an_object_the_size_of_a_cell_takes_that_cell_alone():
    # The object is cell (row 2, column 3) of 5 columns: IoU 1 there and 0 elsewhere, so k = 1.
    found = assign(*one_level(4, 5), torch.tensor([[28.0, 20.0, 8.0, 8.0]]), torch.tensor([1]))
    assert (found.cells.tolist(), found.objects.tolist(), found.iou.tolist()) == ([13], [0], [1.0])


def test_k_is_the_sum_of_ious_cut_to_an_integer():
    boxes, *rest = one_level(5, 5)
    # 9 cells lie within 1.5 strides of (20, 20); 7 of their boxes have IoU 1/2, so k = int(3.5) = 3.
    near = [6, 7, 8, 11, 12, 13, 16]
    boxes[near] = torch.tensor([20.0, 20.0, 8.0, 16.0])
    boxes[[17, 18]] = torch.tensor([100.0, 100.0, 1.0, 1.0])
    found = assign(boxes, *rest, torch.tensor([[20.0, 20.0, 8.0, 8.0]]), torch.tensor([0]))
    assert len(found.cells) == 3
    assert set(found.cells.tolist()) <= set(near)
    assert found.iou.tolist() == [0.5] * 3


def test_no_more_than_ten_ious_are_added_up():
    grid, strides = grids([(16, 16), (8, 8)], (8, 16))
    # 3 × 3 cells of each level lie within 1.5 strides of (60, 60), and every box is perfect.
    boxes = torch.tensor([[60.0, 60.0, 30.0, 30.0]]).repeat(len(grid), 1)
    scores = torch.zeros(len(grid)), torch.zeros(len(grid), 2)
    found = assign(boxes, *scores, grid, strides, boxes[:1], torch.tensor([0]))
    assert len(found.cells) == 10


def test_the_distance_of_one_and_a_half_strides_is_outside():
    # From the object at (12, 12) cell centres lie 0, 8 or more away in each axis, the limit being 12.
    boxes, *rest = one_level(1, 4)
    boxes[:] = torch.tensor([12.0, 4.0, 8.0, 8.0])
    truth = torch.tensor([[16.0, 4.0, 8.0, 8.0]])  # centres 4, 12, 20, 28: distances 12, 4, 4, 12
    found = assign(boxes, *rest, truth, torch.tensor([0]))
    # IoU of each candidate 1/3, summed over the two 2/3, so k = 1; of equal costs the first cell.
    assert found.cells.tolist() == [1]
    boxes[:] = truth  # all perfect: k is the number of candidates
    assert assign(boxes, *rest, truth, torch.tensor([0])).cells.tolist() == [1, 2]


def test_a_cell_that_two_objects_take_goes_to_the_cheaper_one():
    boxes, objectness, classes, grid, strides = one_level(1, 1)
    classes[0] = torch.tensor([-4.0, 4.0])
    truth = torch.tensor([[4.0, 4.0, 8.0, 8.0], [4.0, 4.0, 8.0, 8.0]])
    for labels, winner in (([0, 1], 1), ([1, 0], 0)):
        found = assign(boxes, objectness, classes, grid, strides, truth, torch.tensor(labels))
        assert (found.cells.tolist(), found.objects.tolist()) == ([0], [winner])


def test_an_object_without_a_candidate_of_its_own_must_not_win_against_one_that_has():
    boxes, *rest = one_level(1, 3)
    truth = torch.tensor([[4.0, 4.0, 8.0, 8.0], [400.0, 4.0, 8.0, 8.0]])
    found = assign(boxes, *rest, truth, torch.tensor([0, 0]))
    # Cells 0 and 1 are candidates of the first; IoU 1 + 0 gives it k = 1, and so it keeps cell 0. The second
    # has to take one of them as well, both being as bad: the first of the two, which is contested.
    assert (found.cells.tolist(), found.objects.tolist()) == ([0], [0])


@pytest.mark.parametrize("count", [1, 3])
def test_objects_beyond_every_cell_match_nothing(count):
    truth = torch.tensor([[900.0, 900.0, 8.0, 8.0]]).repeat(count, 1)
    found = assign(*one_level(4, 5), truth, torch.zeros(count, dtype=torch.int64))
    assert (len(found.cells), len(found.objects), len(found.iou)) == (0, 0, 0)


def test_no_objects_match_nothing():
    found = assign(*one_level(4, 5), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert (len(found.cells), len(found.objects), len(found.iou)) == (0, 0, 0)


def test_scores_that_are_not_numbers_do_not_stop_it():
    boxes, objectness, classes, grid, strides = one_level(4, 5)
    found = assign(
        boxes * math.nan,
        objectness * math.nan,
        classes,
        grid,
        strides,
        torch.tensor([[28.0, 20.0, 8.0, 8.0]]),
        torch.tensor([1]),
    )
    assert found.iou.isnan().all()
    assert len(found.cells) >= 1  # the loss is then NaN, which training sees and tells


def test_nothing_is_differentiated():
    boxes, *rest = one_level(4, 5)
    found = assign(boxes.requires_grad_(), *rest, torch.tensor([[28.0, 20.0, 8.0, 8.0]]), torch.tensor([1]))
    assert not found.iou.requires_grad
