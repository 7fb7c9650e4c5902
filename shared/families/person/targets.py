"""From boxes to the grid that the network should predict (specs/person.md "Targets")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from shared.families.person.config import LEVEL_STRIDES, PersonConfig

# A level takes boxes whose longer side is below this many of its strides; the last takes the rest. With
# 64 and 128 pixels every level's people fit what its map can see, give or take (43, 123 and 155 pixels).
LEVEL_REACH_STRIDES = 8


@dataclass(frozen=True)
class LevelTargets:
    """cells float [N, S, S, 4] (tx, ty, tw, th, zero where no one is); responsible bool [N, S, S].

    uncertain bool [N, S, S]: a region to ignore touches the cell, so it is no proof of background.
    """

    cells: Tensor
    responsible: Tensor
    uncertain: Tensor


@dataclass(frozen=True)
class PersonTargets:
    """One LevelTargets per output level; box_count boxes were given, collisions of them found no cell."""

    levels: tuple[LevelTargets, ...]
    box_count: int
    collisions: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> PersonTargets:
        levels = tuple(
            LevelTargets(
                level.cells.to(device, non_blocking=non_blocking),
                level.responsible.to(device, non_blocking=non_blocking),
                level.uncertain.to(device, non_blocking=non_blocking),
            )
            for level in self.levels
        )
        return PersonTargets(levels, self.box_count, self.collisions)


def encode_targets(
    config: PersonConfig,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    image_size: tuple[int, int],
    ignored_boxes: Sequence[Tensor] = (),
) -> PersonTargets:
    """Per picture float [n, 4] xyxy pixels of an input of (height, width), and labels int64 [n], all 0.

    ignored_boxes: per picture float [m, 4], regions in which people may stand unlabelled; empty for none.

    The cell that holds a box centre is responsible for it; of two in one cell the larger box wins and the
    other counts as a collision. Raises ValueError for a box without area, with its centre outside, or
    with another label than 0.
    """
    height, width = image_size
    picture = torch.cat([torch.full((len(b),), n, dtype=torch.int64) for n, b in enumerate(boxes)] or [_NONE])
    xyxy = torch.cat([b.detach().cpu().float().reshape(-1, 4) for b in boxes] or [torch.zeros(0, 4)])
    _check(picture, xyxy, torch.cat([label.detach().cpu() for label in labels] or [_NONE]), image_size)

    scale = torch.tensor([width, height], dtype=torch.float32)
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2 / scale  # [M, 2] in 0..1
    size = (xyxy[:, 2:] - xyxy[:, :2]) / scale  # [M, 2] in 0..1
    level_of = _level_of_box(config, xyxy)  # [M]

    levels = []
    placed = 0
    for index, grid_size in enumerate(config.grid_sizes):
        on_level = level_of == index
        cells, responsible = _place(
            len(boxes), grid_size, picture[on_level], centre[on_level], size[on_level]
        )
        placed += int(responsible.sum())
        uncertain = _touched(len(boxes), grid_size, ignored_boxes, image_size)
        levels.append(LevelTargets(cells, responsible, uncertain))
    return PersonTargets(tuple(levels), box_count=len(xyxy), collisions=len(xyxy) - placed)


_NONE = torch.zeros(0, dtype=torch.int64)


def _level_of_box(config: PersonConfig, xyxy: Tensor) -> Tensor:
    if not config.multi_scale:
        return torch.zeros(len(xyxy), dtype=torch.int64)
    longer_side = (xyxy[:, 2:] - xyxy[:, :2]).amax(dim=-1)
    reach = torch.tensor([LEVEL_REACH_STRIDES * stride for stride in LEVEL_STRIDES[:-1]], dtype=torch.float32)
    return torch.bucketize(longer_side, reach, right=True)


def _place(
    pictures: int, grid_size: int, picture: Tensor, centre: Tensor, size: Tensor
) -> tuple[Tensor, Tensor]:
    """Return a level's cells and which of them are responsible."""
    # A centre on the right or lower edge belongs to the last cell, with an offset of one.
    column_row = (centre * grid_size).floor().clamp(0, grid_size - 1)  # [M, 2] (i, j)
    offset = centre * grid_size - column_row  # [M, 2] in 0..1
    flat = (picture * grid_size + column_row[:, 1].long()) * grid_size + column_row[:, 0].long()  # [M]

    # Of the boxes in one cell the largest keeps it; equal ones: the first. Ranks make that exact.
    rank = torch.empty(len(flat), dtype=torch.int64)
    rank[torch.argsort(size.prod(dim=-1), descending=True, stable=True)] = torch.arange(len(flat))
    best = torch.full((pictures * grid_size * grid_size,), len(flat), dtype=torch.int64)
    best = best.scatter_reduce(0, flat, rank, reduce="amin")
    kept = best[flat] == rank

    cells = torch.zeros(pictures * grid_size * grid_size, 4)
    cells[flat[kept]] = torch.cat([offset, size], dim=-1)[kept]
    responsible = torch.zeros(len(cells), dtype=torch.bool)
    responsible[flat[kept]] = True
    shape = (pictures, grid_size, grid_size)
    return cells.reshape(*shape, 4), responsible.reshape(shape)


def _touched(pictures: int, grid_size: int, regions: Sequence[Tensor], image_size: tuple[int, int]) -> Tensor:
    """bool [N, S, S]: someone in one of the picture's regions could have their centre in the cell."""
    height, width = image_size
    touched = torch.zeros(pictures, grid_size, grid_size, dtype=torch.bool)
    edge = torch.arange(grid_size + 1) / grid_size  # of the cells, in 0..1
    for number, region in enumerate(regions):
        x1, y1, x2, y2 = region.detach().cpu().float().reshape(-1, 4).T.unsqueeze(-1)  # [m, 1] each
        columns = (edge[:-1] < x2 / width) & (edge[1:] > x1 / width)  # [m, S]
        rows = (edge[:-1] < y2 / height) & (edge[1:] > y1 / height)
        touched[number] = (rows.unsqueeze(2) & columns.unsqueeze(1)).any(dim=0)
    return touched


def _check(picture: Tensor, xyxy: Tensor, labels: Tensor, image_size: tuple[int, int]) -> None:
    height, width = image_size
    if len(labels) != len(xyxy):
        raise ValueError(f"{len(xyxy)} boxes came with {len(labels)} labels")
    centre = (xyxy[:, :2] + xyxy[:, 2:]) / 2
    inside = ((centre >= 0) & (centre <= torch.tensor([width, height]))).all(dim=-1)
    good = (xyxy[:, 2:] > xyxy[:, :2]).all(dim=-1) & inside  # comparisons with NaN are false
    if not bool(good.all()):
        first = int((~good).nonzero()[0])
        raise ValueError(
            f"picture {int(picture[first])} of the batch has the box {xyxy[first].tolist()}: a target needs"
            f" x2 > x1, y2 > y1 and its centre inside {width}×{height} pixels"
        )
    if bool((labels != 0).any()):
        raise ValueError(
            f"the person family has one class, label 0, but was given the labels {labels.unique().tolist()};"
            " name the class to keep where the data set is read"
        )
