"""Exponential moving average of a network's weights."""

import copy
from typing import Any

import torch
from torch import nn

_WARMUP = 10  # decay (1 + n) / (10 + n) after n updates, as in TensorFlow's ExponentialMovingAverage


class WeightAverage:
    """Keeps `network`, an averaged copy in evaluation mode.

    After each optimiser step average ← d · average + (1 - d) · weights, d = min(decay, (1 + n) / (10 + n))
    after n steps, so that the random start is soon forgotten. Floating-point buffers (batch statistics) are
    averaged like the weights they belong to; integer buffers (counters) are copied.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay is {decay}; expected a value between 0 and 1")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`, which has the same layout."""
        decay = min(self.decay, (1 + self.updates) / (_WARMUP + self.updates))
        self.updates += 1
        averages, values = [], []
        for average, value in zip(_tensors(self.network), _tensors(network), strict=True):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and numbers only."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.updates = int(state["updates"])


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*(parameter.detach() for parameter in network.parameters()), *network.buffers()]
