"""RVT: attention and an LSTM in every stage, a pyramid and YOLOX's head (specs/events.md sections 1 to 5).

Gehrig & Scaramuzza 2023, "Recurrent Vision Transformers for Object Detection with Event Cameras". Names and
shapes of parameters are those of the published checkpoints.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.families.events.config import SIZES, STAGE_STRIDES, EventsConfig
from shared.families.events.decode import decode_cells
from shared.families.events.head import Head
from shared.families.events.pyramid import Pyramid
from shared.models.cbam import CBAM
from shared.models.conv_lstm import ConvLSTM1x1
from shared.models.maxvit import NORM_EPS, PartitionAttention
from shared.models.squeeze_excitation import SqueezeExcitation

# (h, c) of one stage, each float [N, C, H, W].
State = tuple[Tensor, Tensor]


class RVT(nn.Module):
    """Histograms of one window and what is remembered -> boxes of that window and what to remember.

    `step` is the whole; training runs `recur_clip` over all windows of a clip, gathers the features of those
    that have labels, and gives them to `detect` once. Nothing is detached here: gradients reach back through
    the states as far as the caller lets them.
    """

    def __init__(self, config: EventsConfig) -> None:
        super().__init__()
        self.channels = config.channels
        self.sensor_size = config.sensor_size
        self.padded_size = config.padded_size
        self.stage_dims = config.stage_dims
        self.level_strides = config.level_strides
        levels = config.stage_dims[-config.scales :]
        self.backbone = Backbone(config)
        self.fpn = Pyramid(levels, SIZES[config.size].bottlenecks)
        if config.attention == "se":
            self.fpn_attention = nn.ModuleList(SqueezeExcitation(channels) for channels in levels)
        elif config.attention == "cbam":
            self.fpn_attention = nn.ModuleList(CBAM(channels) for channels in levels)
        else:
            self.fpn_attention = nn.ModuleList(nn.Identity() for _ in levels)
        self.yolox_head = Head(levels, config.stage_dims[-1] // 4, len(config.classes))

    def forward(
        self, histograms: Tensor, states: Sequence[State] | None = None
    ) -> tuple[Tensor, tuple[State, ...]]:
        features, states = self.recur(histograms, states)
        return self.cells(self.detect(features)), states

    def step(
        self, histograms: Tensor, states: Sequence[State] | None = None
    ) -> tuple[Tensor, tuple[State, ...]]:
        """One window: histograms [N, channels, H, W] -> decoded [N, cells, 5 + classes], next states.

        histograms: event counts, not scaled, of the sensor's size or already padded at the bottom and right.
        states: one (h, c) for each of the four stages, as the last step gave them; None begins anew, with
        zeros. decoded: cx, cy, w, h in pixels, objectness and a probability for each class, in 0..1; levels
        one after the other, finest first, row by row. Raises ValueError for other shapes.
        """
        decoded: tuple[Tensor, tuple[State, ...]] = self(histograms, states)
        return decoded

    def recur(
        self, histograms: Tensor, states: Sequence[State] | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[State, ...]]:
        """One window through the stages: features for `detect`, a map [N, C, H, W] for each level; states."""
        x = self._padded(histograms)
        if states is None:
            states = self.zero_states(x.shape[0], x.device, x.dtype)
        else:
            self._check(states, x.shape[0])  # len() would fix the batch of an export
        following: tuple[State, ...] = self.backbone(x, states)
        return tuple(h for h, _ in following[-len(self.level_strides) :]), following

    def recur_clip(
        self, histograms: Tensor, states: Sequence[State] | None = None
    ) -> tuple[tuple[Tensor, ...], tuple[State, ...]]:
        """The same for a clip [L, N, channels, H, W]: features [L, N, C, H, W] for each level; last states.

        Equal to L times `recur`. Each stage sees all windows before the next one does, so only its LSTM goes
        window by window, and everything else is one large operation instead of L small ones.
        """
        windows, streams = histograms.shape[:2]
        x = self._padded(histograms.flatten(0, 1))
        if states is None:
            states = self.zero_states(streams, x.device, x.dtype)
        else:
            self._check(states, streams)
        maps, following = self.backbone.clip(x, states, windows)
        features = [level.unflatten(0, (windows, streams)) for level in maps[-len(self.level_strides) :]]
        return tuple(features), following

    def detect(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Features of any windows -> the head's raw maps [N, 5 + classes, H_k, W_k], for loss or decoding."""
        levels = self.fpn(features)
        attended = [gate(level) for gate, level in zip(self.fpn_attention, levels, strict=True)]
        maps: tuple[Tensor, ...] = self.yolox_head(attended)
        return maps

    def cells(self, maps: Sequence[Tensor]) -> Tensor:
        """What `detect` gave -> decoded [N, cells, 5 + classes], as `step` gives them."""
        return decode_cells(maps, self.level_strides)

    def state_shapes(self) -> list[tuple[int, int, int]]:
        """(channels, height, width) of h and of c, stage by stage."""
        height, width = self.padded_size
        sizes = [(height // stride, width // stride) for stride in STAGE_STRIDES]
        return [(channels, *size) for channels, size in zip(self.stage_dims, sizes, strict=True)]

    def zero_states(
        self, batch: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> tuple[State, ...]:
        """What a stream begins with."""
        shapes = [(batch, *shape) for shape in self.state_shapes()]
        return tuple(
            (torch.zeros(shape, device=device, dtype=dtype), torch.zeros(shape, device=device, dtype=dtype))
            for shape in shapes
        )

    def _check(self, states: Sequence[State], batch: int) -> None:
        shapes = [(batch, *shape) for shape in self.state_shapes()]
        if len(states) != len(shapes):
            raise ValueError(f"a state has {len(shapes)} pairs (h, c), one per stage, not {len(states)}")
        for stage, (pair, shape) in enumerate(zip(states, shapes, strict=True)):
            for tensor in pair:
                if tuple(tensor.shape) != shape:
                    raise ValueError(
                        f"a state of stage {stage} is {list(tensor.shape)}, but {list(shape)} is what follows"
                        f" from a batch of {batch} windows and this network"
                    )

    def _padded(self, histograms: Tensor) -> Tensor:
        size = tuple(histograms.shape[-2:])
        known = histograms.ndim == 4 and histograms.shape[1] == self.channels
        if not known or size not in (self.sensor_size, self.padded_size):
            height, width = self.sensor_size
            raise ValueError(
                f"histograms are [N, {self.channels}, {height}, {width}], or padded to"
                f" {self.padded_size[0]} × {self.padded_size[1]}, but were {list(histograms.shape)}"
            )
        x = histograms if histograms.is_floating_point() else histograms.float()
        below, right = self.padded_size[0] - size[0], self.padded_size[1] - size[1]
        return F.pad(x, (0, right, 0, below)) if below or right else x


class Backbone(nn.Module):
    """Histograms [N, channels, H, W] and four (h, c) -> the next four; each stage reads the last one's h."""

    def __init__(self, config: EventsConfig) -> None:
        super().__init__()
        dims = config.stage_dims
        self.stages = nn.ModuleList(
            Stage(config, inward, outward, stride=4 if index == 0 else 2)
            for index, (inward, outward) in enumerate(zip((config.channels, *dims), dims, strict=False))
        )

    def forward(self, x: Tensor, states: Sequence[State]) -> tuple[State, ...]:
        following = []
        for stage, state in zip(self.stages, states, strict=True):
            x, cell = stage(x, state)
            following.append((x, cell))
        return tuple(following)

    def clip(
        self, x: Tensor, states: Sequence[State], windows: int
    ) -> tuple[list[Tensor], tuple[State, ...]]:
        """x [windows · N, channels, H, W], window by window -> each stage's h of all of them; last states."""
        maps, following = [], []
        for stage, state in zip(self.stages, states, strict=True):
            assert isinstance(stage, Stage)
            x, last = stage.clip(x, state, windows)
            maps.append(x)
            following.append(last)
        return maps, tuple(following)


class Stage(nn.Module):
    """[N, in, H, W] and (h, c) -> (h, c), each [N, out, H/stride, W/stride]."""

    def __init__(self, config: EventsConfig, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.downsample_cf2cl = Downsample(in_channels, out_channels, stride)
        self.att_blocks = nn.ModuleList(
            [AttentionBlock(out_channels, SIZES[config.size].head_dim, config.partition_size)]
        )
        self.lstm = ConvLSTM1x1(
            out_channels, config.depthwise_lstm, config.depthwise_kernel, config.chrono_steps
        )

    def forward(self, x: Tensor, state: State) -> State:
        following: State = self.lstm(self._seen(x), state)
        return following

    def clip(self, x: Tensor, state: State, windows: int) -> tuple[Tensor, State]:
        """x [windows · N, in, H, W], window by window -> every h [windows · N, out, …]; the last state."""
        hidden = []
        for seen in self._seen(x).chunk(windows):
            state = self.lstm(seen, state)
            hidden.append(state[0])
        return torch.cat(hidden), state

    def _seen(self, x: Tensor) -> Tensor:
        """What the LSTM takes, [N, out, H/stride, W/stride]: the part of a stage without memory."""
        x = self.downsample_cf2cl(x)  # [N, H/stride, W/stride, out]
        for block in self.att_blocks:
            x = block(x)
        return x.permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """[N, in, H, W] -> [N, H/stride, W/stride, out]: overlapping convolution, then LayerNorm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        kernel = 2 * stride - 1
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, bias=False
        )
        self.norm = nn.LayerNorm(out_channels, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return out


class AttentionBlock(nn.Module):
    """[N, H, W, C] -> the same shape: within windows, then over the grid.

    What comes in was normalised by the downsampling, so the first attention has no norm of its own.
    """

    def __init__(self, channels: int, head_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.att_window = PartitionAttention(channels, head_channels, size, "window", norm=False)
        self.att_grid = PartitionAttention(channels, head_channels, size, "grid")

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.att_grid(self.att_window(x))
        return out
