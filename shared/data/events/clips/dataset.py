"""Clips as tensors. Which there are, and in what order, is up to the sampler; nothing is carried here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from shared.data.events.clips.frame_sequence import LabelledBoxes
from shared.data.events.clips.frame_set import FrameSet
from shared.data.events.clips.plan import PADDING, Clip


class ClipChange(Protocol):
    """A random change of a clip, drawn from `clip.seed` alone."""

    def __call__(
        self, frames: NDArray[Any], boxes: LabelledBoxes, clip: Clip
    ) -> tuple[NDArray[Any], LabelledBoxes]:
        """Frames [L, C, H, W] and boxes, whose `window` counts within the clip, changed together."""


class LabelledWindow(NamedTuple):
    """recording: index in the FrameSet; window: in the recording; time_us: when it ends."""

    recording: int
    window: int
    time_us: int


@dataclass
class ClipSample:
    """frames: uint8 or int8 [L, C, H, W]; boxes: their `window` counts within the clip, rising."""

    clip: Clip
    frames: NDArray[Any]
    boxes: LabelledBoxes
    end_us: NDArray[np.int64]


@dataclass
class ClipBatch:
    """N clips of L windows.

    frames: uint8 or int8 [L, N, C, H, W], zeros where a clip is shorter. labelled: int64 [M], rising,
    t * N + n of each window that has boxes. objects: float32 [M, G, 5] of class, cx, cy, w, h in pixels of
    the frames, zero rows where a window has fewer than G. pairs: int64 [P, 2], rows (earlier, later) of
    `objects` that are of one clip, with no labelled window between. first: bool [N], whether the state
    before is zero. windows: what each of the M rows is. clips: the N clips.
    """

    frames: Tensor
    labelled: Tensor
    objects: Tensor
    pairs: Tensor
    first: Tensor
    windows: list[LabelledWindow]
    clips: list[Clip]

    @property
    def box_count(self) -> int:
        return int((self.objects[..., 3] > 0).sum())

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "ClipBatch":
        return self._with(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> "ClipBatch":
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "ClipBatch":
        return ClipBatch(
            change(self.frames),
            change(self.labelled),
            change(self.objects),
            change(self.pairs),
            change(self.first),
            self.windows,
            self.clips,
        )


class ClipDataset(Dataset[ClipSample]):
    """The clips of a FrameSet: indexed by Clip, so it goes with a `batch_sampler` that yields them.

    Without state: the same clip is the same sample in every process and order.
    """

    def __init__(
        self, frames: FrameSet, *, sequence_length: int, augmentation: ClipChange | None = None
    ) -> None:
        """sequence_length: windows of each sample; a shorter clip is filled with zeros."""
        self.frames = frames
        self.sequence_length = sequence_length
        self.augmentation = augmentation

    def __getitem__(self, clip: Clip) -> ClipSample:
        """Raises DatasetUnreadable for a file that cannot be read."""
        record = self.frames.records[max(clip.recording, 0)]
        shape = (self.sequence_length, *record.frame_shape)
        if clip.recording == PADDING:
            empty = np.zeros(shape, record.frames.dtype)
            return ClipSample(clip, empty, record.boxes(0, 0), np.empty(0, np.int64))
        stop = clip.start + clip.length
        frames, found = record.read(clip.start, stop), record.boxes(clip.start, stop)
        boxes = LabelledBoxes(found.window - clip.start, found.boxes, found.classes, found.track_ids)
        if self.augmentation is not None:
            frames, boxes = self.augmentation(frames, boxes, clip)
        if clip.length < self.sequence_length:
            frames = np.concatenate([frames, np.zeros((shape[0] - clip.length, *shape[1:]), frames.dtype)])
        return ClipSample(clip, frames, boxes, record.end_us[clip.start : stop])


def collate(samples: list[ClipSample]) -> ClipBatch:
    """Stack clips of equal shape: lane n is the nth sample."""
    lanes = len(samples)
    rows: list[tuple[int, LabelledBoxes, LabelledWindow]] = []
    for lane, sample in enumerate(samples):
        steps, starts = np.unique(sample.boxes.window, return_index=True)
        stops = [*starts.tolist(), len(sample.boxes)][1:]
        for step, start, stop in zip(steps.tolist(), starts.tolist(), stops, strict=True):
            window = LabelledWindow(sample.clip.recording, sample.clip.start + step, int(sample.end_us[step]))
            rows.append((step * lanes + lane, sample.boxes.select(slice(start, stop)), window))
    rows.sort(key=lambda row: row[0])
    objects = np.zeros((len(rows), max((len(boxes) for _, boxes, _ in rows), default=0), 5), np.float32)
    pairs, latest = [], dict[int, int]()  # lane: its last row so far
    for number, (place, boxes, _) in enumerate(rows):
        lane = place % lanes
        if lane in latest:
            pairs.append((latest[lane], number))
        latest[lane] = number
        x, y, w, h = boxes.boxes.T
        objects[number, : len(boxes)] = np.stack([boxes.classes, x + w / 2, y + h / 2, w, h], axis=1)
    return ClipBatch(
        # Three times as fast as torch.stack, since NumPy asks for large pages of memory.
        frames=torch.from_numpy(np.stack([sample.frames for sample in samples], axis=1)),
        labelled=torch.tensor([place for place, _, _ in rows], dtype=torch.int64),
        objects=torch.from_numpy(objects),
        pairs=torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2),
        first=torch.tensor([sample.clip.first for sample in samples], dtype=torch.bool),
        windows=[window for _, _, window in rows],
        clips=[sample.clip for sample in samples],
    )
