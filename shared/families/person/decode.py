"""From the network's grids to candidate boxes (specs/person.md "decode"); part of the exported graph."""

import torch
from torch import Tensor

from shared.families.person.config import PersonConfig

# One grid [N, S, S, 5], or one per level.
Outputs = Tensor | tuple[Tensor, ...]


def decode(config: PersonConfig, outputs: Outputs) -> tuple[Tensor, Tensor, Tensor]:
    """Grids [N, S, S, 5] -> boxes float [N, K, 4] xyxy input pixels, scores [N, K], labels int64 [N, K].

    K = min(top_k, number of cells), best score first. Boxes may reach beyond the picture:
    they are clipped where the letterbox is undone.
    """
    boxes = torch.cat([cell_boxes(grid).flatten(1, 2) for grid in levels_of(outputs)], dim=1)  # [N, cells, 4]
    scores = torch.cat([grid[..., 4].flatten(1) for grid in levels_of(outputs)], dim=1)  # [N, cells]

    top_scores, top = scores.topk(min(config.top_k, _cell_count(config)), dim=1, sorted=True)  # [N, K]
    top_boxes = boxes.gather(1, top.unsqueeze(-1).expand(-1, -1, 4)) * config.image_size
    return top_boxes, top_scores, torch.zeros_like(top)


def cell_boxes(grid: Tensor) -> Tensor:
    """Cells [N, S, S, 4 or 5] of (tx, ty, tw, th, …) -> xyxy [N, S, S, 4], relative to the picture.

    cx = (i + tx)/S, cy = (j + ty)/S in row j and column i.
    """
    size = grid.shape[1]
    steps = torch.arange(size, device=grid.device, dtype=grid.dtype)
    centre_x = (steps.view(1, 1, size) + grid[..., 0]) / size
    centre_y = (steps.view(1, size, 1) + grid[..., 1]) / size
    half_width, half_height = grid[..., 2] / 2, grid[..., 3] / 2
    return torch.stack(
        [centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height], dim=-1
    )


def levels_of(outputs: Outputs) -> tuple[Tensor, ...]:
    """One grid or several, as a tuple."""
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _cell_count(config: PersonConfig) -> int:
    return sum(size * size for size in config.grid_sizes)
