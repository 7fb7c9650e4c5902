"""The person loss, every term by name and already weighted (specs/person.md "loss")."""

import torch
from torch import Tensor

from shared.families.person.config import PersonConfig
from shared.families.person.decode import Outputs, cell_boxes, levels_of
from shared.families.person.targets import LevelTargets, PersonTargets
from shared.losses.box_regression import ciou_loss, sqrt_size_loss, squared_size_loss
from shared.losses.objectness import probability_bce


def loss(config: PersonConfig, outputs: Outputs, targets: PersonTargets) -> dict[str, Tensor]:
    """λ_coord·(L_xy + L_wh) + L_obj_pos + λ_noobj·L_obj_neg: sums over cells, mean over the batch.

    Gives scalars: loss_xy, loss_wh, loss_obj_pos, loss_obj_neg, weights included, and "loss", their sum.
    Cells in regions to ignore are neither positive nor negative, as in evaluation.
    With size_loss "ciou" L_wh is 1 − CIoU of the whole decoded box; L_xy stays.
    """
    levels = levels_of(outputs)
    if len(levels) != len(targets.levels):
        raise ValueError(f"the network gave {len(levels)} levels and the targets have {len(targets.levels)}")
    weights = {
        "loss_xy": config.lambda_coord,
        "loss_wh": config.lambda_coord,
        "loss_obj_pos": 1.0,
        "loss_obj_neg": config.lambda_noobj,
    }
    batch = len(levels[0])
    with torch.autocast(device_type=levels[0].device.type, enabled=False):
        pairs = zip(levels, targets.levels, strict=True)
        terms = [_level_terms(config, grid.float(), target) for grid, target in pairs]
        weighted = {
            name: weight / batch * torch.stack([level[name] for level in terms]).sum()
            for name, weight in weights.items()
        }
        return {"loss": torch.stack(list(weighted.values())).sum(), **weighted}


def _level_terms(config: PersonConfig, grid: Tensor, target: LevelTargets) -> dict[str, Tensor]:
    positive = target.responsible  # bool [N, S, S]
    predicted, truth = grid[positive], target.cells[positive]  # [M, 5], [M, 4]
    objectness = probability_bce(grid[..., 4], positive)  # [N, S, S]
    if config.size_loss == "ciou":
        size_loss = ciou_loss(cell_boxes(grid)[positive], cell_boxes(target.cells)[positive])
    elif config.size_loss == "sqrt":
        size_loss = sqrt_size_loss(predicted[:, 2:4], truth[:, 2:])
    else:
        size_loss = squared_size_loss(predicted[:, 2:4], truth[:, 2:])
    return {
        "loss_xy": (predicted[:, :2] - truth[:, :2]).square().sum(),
        "loss_wh": size_loss.sum(),
        "loss_obj_pos": objectness[positive].sum(),
        "loss_obj_neg": objectness[~(positive | target.uncertain)].sum(),
    }
