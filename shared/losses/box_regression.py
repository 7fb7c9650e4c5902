"""Regression losses on matched pairs of boxes: one value per pair, no reduction."""

import math

import torch
from torch import Tensor

EPS = 1e-7


def squared_size_loss(size: Tensor, target: Tensor) -> Tensor:
    """Σ over width and height of (s² − t²)². float [M, 2] × [M, 2] -> [M]; specs/person.md "loss".

    Squaring weighs large boxes more: the gradient falls with the size itself.
    """
    return (size.square() - target.square()).square().sum(dim=-1)


def sqrt_size_loss(size: Tensor, target: Tensor) -> Tensor:
    """Σ over width and height of (√s − √t)². float [M, 2] × [M, 2] -> [M]; YOLOv1 (Redmon et al. 2016)."""
    return (size.clamp_min(EPS).sqrt() - target.clamp_min(EPS).sqrt()).square().sum(dim=-1)


def pairwise_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """Intersection over union of each pair. xyxy [M, 4] × [M, 4] -> [M] in 0..1."""
    top_left = torch.maximum(boxes[:, :2], targets[:, :2])
    bottom_right = torch.minimum(boxes[:, 2:], targets[:, 2:])
    intersection = (bottom_right - top_left).clamp_min(0).prod(dim=-1)
    union = _area(boxes) + _area(targets) - intersection
    return intersection / union.clamp_min(EPS * EPS)


def ciou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 − CIoU of each pair. xyxy [M, 4] × [M, 4] in any one unit -> [M] in 0..3.

    Zheng et al. 2020 (Distance-IoU Loss), eqs. 7–11: 1 − IoU + ρ²/c² + α·v, with α held constant
    in the backward pass as the paper's code does.
    """
    iou = pairwise_iou(boxes, targets)

    offset = (boxes[:, :2] + boxes[:, 2:] - targets[:, :2] - targets[:, 2:]) / 2  # [M, 2] centre to centre
    enclosing = torch.maximum(boxes[:, 2:], targets[:, 2:]) - torch.minimum(boxes[:, :2], targets[:, :2])
    distance = offset.square().sum(dim=-1) / enclosing.square().sum(dim=-1).clamp_min(EPS * EPS)

    v = (4 / math.pi**2) * (_aspect_angle(targets) - _aspect_angle(boxes)).square()
    with torch.no_grad():
        alpha = v / (1 - iou + v).clamp_min(EPS)
    return 1 - iou + distance + alpha * v


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=-1)


def _aspect_angle(boxes: Tensor) -> Tensor:
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp_min(EPS).unbind(dim=-1)
    return torch.atan2(width, height)
