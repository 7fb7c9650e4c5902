"""The events loss, every term by name and already weighted (components spec 1; events spec 14)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.families.events.assignment import EPS, Assignment, assign
from shared.families.events.config import EventsConfig
from shared.families.events.decode import cell_grid, decode_boxes, flatten_levels
from shared.losses.iou import giou_loss, iou_squared_loss
from shared.losses.size_aware import size_aware_weights
from shared.losses.temporal_consistency import temporal_consistency

BOX_WEIGHT = 5.0


@dataclass(frozen=True)
class EventTargets:
    """objects: float [N, M, 5] of class, cx, cy, w, h in pixels, rows of zeros where a window has fewer.

    pairs: int64 [P, 2], windows (earlier, later) of the batch that follow each other in one stream, for
    temporal consistency; None where nothing is known of that.
    """

    objects: Tensor
    pairs: Tensor | None = None


def loss(config: EventsConfig, outputs: Sequence[Tensor], targets: EventTargets) -> dict[str, Tensor]:
    """5·box + objectness + class, each summed and divided by the number of matched cells, at least one.

    outputs: the head's raw maps. Gives the scalars loss_box, loss_objectness, loss_class, weights included;
    loss_l1 and loss_temporal where the config gives them a weight; and "loss", their sum. Objectness is over
    all cells; a class target is the match's IoU. Computed in single precision.

    Raises ValueError for targets of another number of windows, classes that are not there, and boxes
    without area.
    """
    with torch.autocast(device_type=outputs[0].device.type, enabled=False):
        raw = flatten_levels(outputs).float()  # [N, A, 5 + C]
        grid, strides = cell_grid(outputs, config.level_strides)
        boxes = decode_boxes(raw[..., :4], grid, strides)
        truth = _checked(targets.objects.float(), raw)
        matches = [
            assign(boxes[n], raw[n, :, 4], raw[n, :, 5:], grid, strides, rows[:, 1:], rows[:, 0].long())
            for n, rows in enumerate(truth)
        ]
        terms = _terms(config, raw, boxes, grid, strides, truth, matches)
        if config.temporal_consistency:
            pairs = targets.pairs
            if pairs is None:
                raise ValueError(
                    "temporal_consistency needs to know which windows of the batch follow each other"
                )
            scores = torch.sigmoid(raw[..., 4:5]) * torch.sigmoid(raw[..., 5:])
            terms["loss_temporal"] = config.temporal_consistency * temporal_consistency(scores, pairs)
        return {"loss": torch.stack(list(terms.values())).sum(), **terms}


def _terms(
    config: EventsConfig,
    raw: Tensor,
    boxes: Tensor,
    grid: Tensor,
    strides: Tensor,
    truth: Sequence[Tensor],
    matches: Sequence[Assignment],
) -> dict[str, Tensor]:
    window = torch.cat([torch.full_like(match.cells, n) for n, match in enumerate(matches)])  # [M]
    cells = torch.cat([match.cells for match in matches])
    rows = torch.cat([rows[match.objects] for rows, match in zip(truth, matches, strict=True)])  # [M, 5]
    iou = torch.cat([match.iou for match in matches])
    count = max(len(cells), 1)

    weights = torch.ones_like(iou)
    if config.size_aware is not None:
        each = size_aware_weights(torch.cat(list(truth))[:, 3:], config.size_aware).split(
            [len(rows) for rows in truth]
        )
        weights = torch.cat([weight[match.objects] for weight, match in zip(each, matches, strict=True)])

    predicted, target = raw[window, cells], rows[:, 1:]  # [M, 5 + C], [M, 4]
    box_loss = iou_squared_loss if config.box_loss == "iou" else giou_loss
    objectness = torch.zeros_like(raw[..., 4])
    objectness[window, cells] = 1.0
    labels = F.one_hot(rows[:, 0].long(), raw.shape[-1] - 5) * iou[:, None]
    by_class = F.binary_cross_entropy_with_logits(predicted[:, 5:], labels, reduction="none").sum(dim=1)
    terms = {
        "loss_box": BOX_WEIGHT * (weights * box_loss(boxes[window, cells], target)).sum() / count,
        "loss_objectness": F.binary_cross_entropy_with_logits(raw[..., 4], objectness, reduction="sum")
        / count,
        "loss_class": (weights * by_class).sum() / count,
    }
    if config.l1_weight:
        encoded = _encode(target, grid[cells], strides[cells])
        terms["loss_l1"] = config.l1_weight * (predicted[:, :4] - encoded).abs().sum() / count
    return terms


def _encode(boxes: Tensor, grid: Tensor, strides: Tensor) -> Tensor:
    """What the raw outputs of the matched cells should be: [M, 4]."""
    scaled = boxes / strides[:, None]
    return torch.cat([scaled[:, :2] - grid, torch.log(scaled[:, 2:] + EPS)], dim=1)


def _checked(objects: Tensor, raw: Tensor) -> list[Tensor]:
    """Return the rows of each window's objects, [G, 5]."""
    if objects.ndim != 3 or objects.shape[2] != 5 or len(objects) != len(raw):
        raise ValueError(
            f"targets are [{len(raw)}, objects, 5] for {len(raw)} windows, but were {list(objects.shape)}"
        )
    used = objects.ne(0).any(dim=2)
    label, size = objects[..., 0], objects[..., 3:]
    classes = raw.shape[-1] - 5
    known = (label >= 0) & (label < classes) & (label == label.floor())
    good = objects.isfinite().all(dim=2) & known & (size > 0).all(dim=2)
    bad = (used & ~good).nonzero()
    if len(bad):
        window, row = bad[0].tolist()
        raise ValueError(
            f"window {window} of the batch has the target {objects[window, row].tolist()}: class, cx, cy,"
            f" w, h with a class in 0..{classes - 1} and w, h > 0 are needed"
        )
    return [rows[mask] for rows, mask in zip(objects, used, strict=True)]
