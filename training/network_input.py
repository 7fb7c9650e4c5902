"""From stored pixels to what every family's network takes, and what it gives in single precision."""

from typing import Any

import torch
from torch import Tensor


def network_input(images: Tensor, *, channels_last: bool) -> Tensor:
    """Turn uint8 [N, H, W, 3] into float32 [N, 3, H, W] in 0..1, on the same device.

    The permuted pixels already lie in channels-last order, so that format costs nothing here.
    """
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return images.permute(0, 3, 1, 2).to(torch.float32, memory_format=memory_format).div_(255)


def as_float32(outputs: Any) -> Any:
    """Return a tensor, or a tuple or list of them, in single precision."""
    if isinstance(outputs, Tensor):
        return outputs.float()
    return type(outputs)(as_float32(output) for output in outputs)
