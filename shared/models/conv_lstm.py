"""A convolutional LSTM cell without neighbourhood: every place has a memory of its own.

Hochreiter & Schmidhuber 1997 as 1×1 convolutions, after Gehrig & Scaramuzza 2023 (RVT), section 3.1;
specs/events.md section 3.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Depthwise = Literal["none", "hidden", "concat"]


class ConvLSTM1x1(nn.Module):
    """x [N, C, H, W] and (h, c), each [N, C, H, W] -> the next (h, c).

    forget, input and output gates, then the candidate, in this order of the convolution's channels:
    c' = forget · c + input · tanh(candidate), h' = output · tanh(c').

    depthwise: a depthwise k×k convolution in front, so that memory moves over places: of the old h alone
    ("hidden") or of x and h together ("concat"). chrono_steps: see `begin_with_memory`; None: PyTorch's own
    initial values. Raises ValueError for an even kernel.
    """

    def __init__(
        self,
        channels: int,
        depthwise: Depthwise = "none",
        kernel: int = 3,
        chrono_steps: int | None = None,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a depthwise kernel needs a centre, so an odd side, and was given {kernel}")
        self.channels = channels
        self.depthwise = depthwise
        if depthwise != "none":
            mixed = channels if depthwise == "hidden" else 2 * channels
            self.conv3x3_dws = nn.Conv2d(mixed, mixed, kernel, padding=kernel // 2, groups=mixed)
        self.conv1x1 = nn.Conv2d(2 * channels, 4 * channels, kernel_size=1)
        if chrono_steps is not None:
            self.begin_with_memory(chrono_steps)

    @torch.no_grad()
    def begin_with_memory(self, steps: int) -> None:
        """Let the first half of the channels keep what they hold for 1 to `steps` steps, the rest as it is.

        Chrono initialisation (Tallec & Ollivier 2018): a gate of sigmoid(log T) forgets over T
        steps, and the input gate opens as little as the other one closes. T is log-uniform here, so that
        there are short memories as well as long ones. Raises ValueError for fewer than two steps.
        """
        if steps < 2:
            raise ValueError(f"a memory needs two steps at least, not {steps}")
        bias, kept = self.conv1x1.bias, self.channels // 2
        assert bias is not None
        log_steps = torch.empty(kept).uniform_(0.0, math.log(steps))
        bias[:kept] = log_steps
        bias[self.channels : self.channels + kept] = -log_steps

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden, cell = state
        if self.depthwise == "hidden":
            hidden = self.conv3x3_dws(hidden)
        joined = torch.cat([x, hidden], dim=1)  # [N, 2C, H, W]
        if self.depthwise == "concat":
            joined = self.conv3x3_dws(joined)

        gates, candidate = self.conv1x1(joined).split([3 * self.channels, self.channels], dim=1)
        forget, enter, leave = torch.sigmoid(gates).chunk(3, dim=1)  # [N, C, H, W] each
        cell = forget * cell + enter * torch.tanh(candidate)
        return leave * torch.tanh(cell), cell
