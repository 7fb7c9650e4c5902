"""YOLOX's box losses on matched pairs: one value per pair, no reduction (specs/components.md section 1)."""

import torch
from torch import Tensor

EPS = 1e-16


def iou_squared_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 − IoU². cx, cy, w, h in any one unit, float [M, 4] × [M, 4] -> [M] in 0..1."""
    intersection, union, _ = _areas(boxes, targets)
    return 1 - (intersection / (union + EPS)).square()


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 − GIoU, cx, cy, w, h [M, 4] × [M, 4] -> [M] in 0..2; Rezatofighi et al. 2019, algorithm 1."""
    intersection, union, hull = _areas(boxes, targets)
    giou = intersection / (union + EPS) - (hull - union) / hull.clamp_min(EPS)
    return 1 - giou.clamp(-1.0, 1.0)


def iou_matrix(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of every pair. cx, cy, w, h [G, 4] × [A, 4] -> [G, A] in 0..1."""
    intersection, union, _ = _areas(boxes[:, None], others[None])
    return intersection / (union + EPS)


def _areas(boxes: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Areas of intersection, union and smallest box around both, broadcast over all but the last axis."""
    low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    target_low, target_high = targets[..., :2] - targets[..., 2:] / 2, targets[..., :2] + targets[..., 2:] / 2
    shared = (torch.minimum(high, target_high) - torch.maximum(low, target_low)).clamp_min(0)
    hull = torch.maximum(high, target_high) - torch.minimum(low, target_low)
    intersection = shared[..., 0] * shared[..., 1]
    union = boxes[..., 2] * boxes[..., 3] + targets[..., 2] * targets[..., 3] - intersection
    return intersection, union, hull[..., 0] * hull[..., 1]
