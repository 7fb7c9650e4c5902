"""From the head's raw maps to boxes (specs/events.md sections 5 and 6).

`decode_cells` and `candidates` are tensor operations only, so that they can be part of an exported graph.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from shared.families.events.config import EventsConfig
from shared.vision.nms import nms

FARTHEST_PX = 1e6

Ranking = Literal["score", "class_probability"]


def flatten_levels(maps: Sequence[Tensor]) -> Tensor:
    """Maps [N, V, H_k, W_k] -> [N, cells, V]: one level after the other, row by row."""
    return torch.cat([level.flatten(2) for level in maps], dim=2).transpose(1, 2)


def cell_grid(maps: Sequence[Tensor], strides: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Column and row of every cell, float [cells, 2], and its stride in pixels, float [cells]."""
    corners, widths = [], []
    for level, stride in zip(maps, strides, strict=True):
        rows, columns = level.shape[-2:]
        row, column = torch.meshgrid(
            torch.arange(rows, device=level.device, dtype=torch.float32),
            torch.arange(columns, device=level.device, dtype=torch.float32),
            indexing="ij",
        )
        corners.append(torch.stack([column, row], dim=-1).flatten(0, 1))
        widths.append(torch.full((rows * columns,), float(stride), device=level.device))
    return torch.cat(corners), torch.cat(widths)


def decode_boxes(raw: Tensor, grid: Tensor, strides: Tensor) -> Tensor:
    """Raw dx, dy, dw, dh [N, cells, 4] -> cx, cy, w, h in pixels: (d + g)·s and exp(d)·s; no half cell."""
    centre = (raw[..., :2] + grid) * strides[:, None]
    size = torch.exp(raw[..., 2:]) * strides[:, None]
    return torch.cat([centre, size], dim=-1)


def decode_cells(maps: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Raw maps [N, 5 + classes, H_k, W_k] -> [N, cells, 5 + classes]: cx, cy, w, h, then probabilities.

    In float32, also where the maps are not: exp leaves half precision at a logit of 11.
    """
    raw = flatten_levels(maps).float()
    grid, widths = cell_grid(maps, strides)
    return torch.cat([decode_boxes(raw[..., :4], grid, widths), torch.sigmoid(raw[..., 4:])], dim=-1)


def candidates(config: EventsConfig, decoded: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Decoded cells -> boxes [N, K, 4] xyxy pixels, scores [N, K], labels int64 [N, K], probabilities [N, K].

    score = objectness · probability of the best class, descending; the probability alone is what published
    numbers rank by. K = min(top_k, cells). Boxes may reach beyond the sensor, as far as FARTHEST_PX: sides
    are exponentials, and cells that never had an object were never taught theirs.
    """
    centre, half = decoded[..., :2], decoded[..., 2:4] / 2
    boxes = torch.cat([centre - half, centre + half], dim=-1).clamp(-FARTHEST_PX, FARTHEST_PX)
    probability, label = decoded[..., 5:].max(dim=-1)  # [N, cells]
    scores, top = (decoded[..., 4] * probability).topk(min(config.top_k, config.cell_count), dim=1)
    best = boxes.gather(1, top.unsqueeze(-1).expand(-1, -1, 4))
    return best, scores, label.gather(1, top), probability.gather(1, top)


def postprocess(
    decoded: Tensor, score_threshold: float, iou_threshold: float, ranking: Ranking = "score"
) -> list[Tensor]:
    """Decoded cells [N, cells, 5 + classes] -> for each window float [n, 7], best first, on the CPU.

    Rows are x1, y1, x2, y2 in pixels, objectness, class probability, class. Kept is what has objectness ·
    probability >= score_threshold and overlaps no better box of its class by more than iou_threshold; better
    by that same product. ranking "class_probability" orders the rows that are kept as the published
    evaluation does, which leaves objectness out; it drops and keeps the same boxes.
    """
    return [
        _kept(window, score_threshold, iou_threshold, ranking) for window in decoded.detach().cpu().float()
    ]


def _kept(cells: Tensor, score_threshold: float, iou_threshold: float, ranking: Ranking) -> Tensor:
    probability, label = cells[:, 5:].max(dim=-1)
    score = cells[:, 4] * probability
    chosen = score >= score_threshold
    centre, half = cells[chosen, :2], cells[chosen, 2:4] / 2
    columns = [
        centre - half,
        centre + half,
        cells[chosen, 4:5],
        probability[chosen, None],
        label[chosen, None].float(),
    ]
    rows = torch.cat(columns, dim=1)
    chosen_score = score[chosen]
    best = nms(
        rows[:, :4].numpy(),
        chosen_score.numpy(),
        label[chosen].numpy(),
        iou_threshold,
        max_detections=len(rows),
    )
    kept = rows[torch.from_numpy(best)]
    rank = kept[:, 5] if ranking == "class_probability" else kept[:, 4] * kept[:, 5]
    return kept[torch.argsort(rank, descending=True, stable=True)]
