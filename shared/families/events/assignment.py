"""SimOTA: which cells shall predict which object (Ge et al. 2021, section 2.1; components spec 1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from shared.losses.iou import iou_matrix

CENTRE_RADIUS = 1.5  # strides
IOU_COST = 3.0
OFF_CENTRE_COST = 1e6
MOST_CELLS = 10
EPS = 1e-8
LOG_FLOOR = -100.0  # as torch's binary cross-entropy bounds its logarithms


@dataclass(frozen=True)
class Assignment:
    """One entry per matched cell: its index, ascending, its object's, both int64 [M], and their IoU."""

    cells: Tensor
    objects: Tensor
    iou: Tensor


@torch.no_grad()
def assign(
    boxes: Tensor,
    objectness: Tensor,
    classes: Tensor,
    grid: Tensor,
    strides: Tensor,
    true_boxes: Tensor,
    true_classes: Tensor,
) -> Assignment:
    """Match the cells of one window with its objects.

    boxes: decoded cx, cy, w, h float32 [A, 4]; objectness [A] and classes [A, C]: logits; grid [A, 2] column
    and row; strides [A]; true_boxes float32 [G, 4]; true_classes int64 [G].

    Candidates have their centre nearer than 1.5 strides, in both axes, to that of some object. An object
    takes as many of them as its ten best IoUs add up to, at least one, those of least cost; a cell that
    several take goes to the one of all objects for which it costs least. No candidates, no matches.
    """
    centres = (grid + 0.5) * strides[:, None]  # [A, 2]
    distance = (centres[None] - true_boxes[:, None, :2]).abs().amax(dim=-1)  # [G, A]
    central = distance < CENTRE_RADIUS * strides
    cells = central.any(dim=0).nonzero().squeeze(1)  # [K]
    if not len(cells):
        return Assignment(cells, cells.clone(), boxes.new_zeros(0))

    iou = iou_matrix(true_boxes, boxes[cells])  # [G, K]
    cost = (
        _class_cost(objectness[cells], classes[cells], true_classes)
        - IOU_COST * torch.log(iou + EPS)
        + OFF_CENTRE_COST * (~central[:, cells])
    )

    most = min(MOST_CELLS, len(cells))
    wanted = iou.topk(most, dim=1).values.sum(dim=1).int().clamp(1, most)  # [G]
    rank = cost.argsort(dim=1, stable=True).argsort(dim=1)  # [G, K], 0 for the cheapest
    taken = rank < wanted[:, None]
    contested = taken.sum(dim=0) > 1
    cheapest = cost.argmin(dim=0)  # [K]
    owner = torch.where(contested, cheapest, taken.int().argmax(dim=0))
    matched = taken.any(dim=0)
    objects = owner[matched]
    return Assignment(cells[matched], objects, iou[objects, matched.nonzero().squeeze(1)])


def _class_cost(objectness: Tensor, classes: Tensor, true_classes: Tensor) -> Tensor:
    """Binary cross-entropy of √(class · objectness) with each object's class, summed over classes: [G, K].

    Written out, because torch's own raises on NaN, where a training loop wants to see the NaN and say so.
    """
    probability = (torch.sigmoid(classes) * torch.sigmoid(objectness)[:, None]).sqrt()  # [K, C]
    present = -torch.log(probability).clamp_min(LOG_FLOOR)
    absent = -torch.log1p(-probability).clamp_min(LOG_FLOOR)
    return absent.sum(dim=1) + (present - absent).T[true_classes]
