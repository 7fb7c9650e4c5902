"""One preprocessed recording: frames, when their windows end, and boxes in pixels of the frames.

Layout as `shared.data.events.sequence` writes it; boxes as the events spec, section 8, loads them.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from shared.core.files import sha256_file
from shared.data.events.clips.documents import damaged
from shared.data.events.clips.frames import DATASET, Frames, OpenFiles, StoredFrames
from shared.data.events.labels import BOX
from shared.data.events.sequence import representation_file
from shared.vision.event_stacks import REPRESENTATIONS


@dataclass(frozen=True)
class StreamSettings:
    """How the frames of a set were made.

    representation: a name in REPRESENTATIONS, of `bins` time bins over `window_ms`. half: only the odd rows
    and columns of the sensor are kept. sensor: (height, width); frame: (channels, height, width).
    cutoff: largest count; None where nothing is counted.
    """

    representation: str
    bins: int
    window_ms: int
    half: bool
    sensor: tuple[int, int]
    frame: tuple[int, int, int]
    cutoff: int | None


@dataclass(frozen=True, eq=False)
class LabelledBoxes:
    """Boxes of some windows, by window.

    window: int64 [M], rising; boxes: float32 [M, 4], x, y of the top left corner, width, height in pixels of
    the frames; classes: int64 [M]; track_ids: int64 [M].
    """

    window: NDArray[np.int64]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    track_ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.window)

    def select(self, rows: NDArray[Any] | slice) -> "LabelledBoxes":
        """Those of these rows."""
        return LabelledBoxes(self.window[rows], self.boxes[rows], self.classes[rows], self.track_ids[rows])

    def moved(self, boxes: NDArray[Any]) -> "LabelledBoxes":
        """The same with other corners and sides [M, 4]; those without area are left out."""
        moved = LabelledBoxes(self.window, boxes.astype(np.float32), self.classes, self.track_ids)
        return moved.select(np.flatnonzero((boxes[:, 2:] > 0).all(axis=1)))

    @property
    def corners(self) -> NDArray[np.float32]:
        """float32 [M, 4]: x1, y1, x2, y2."""
        return np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)


@dataclass(frozen=True, eq=False)
class FrameSequence:
    """A recording as windows 0..T-1.

    name: unique in its split. end_us: int64 [T], rising, when each window ends. objects: boxes of the
    labelled windows. labelled: int64 [F], rising, the windows that have boxes; others are not known to be
    empty, there only is no label at their time.
    """

    name: str
    folder: Path
    frames: Frames
    end_us: NDArray[np.int64]
    objects: LabelledBoxes
    labelled: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.end_us)

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.frames.shape[1:]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return the windows start..stop-1: [stop - start, C, H, W], uint8 or int8.

        Raises IndexError for windows that are not there, DatasetUnreadable for a file that cannot be read.
        """
        if not 0 <= start <= stop <= len(self):
            raise IndexError(f"{self.name} has windows 0 to {len(self) - 1}, not {start} to {stop - 1}")
        out = np.empty((stop - start, *self.frame_shape), self.frames.dtype)
        if len(out):
            self.frames.read(out, start)
        return out

    def boxes(self, start: int, stop: int) -> LabelledBoxes:
        """Return the boxes of the windows start..stop-1; `window` counts from the recording's first."""
        first, last = np.searchsorted(self.objects.window, [start, stop]).tolist()
        return self.objects.select(slice(first, last))

    def label_digest(self) -> bytes:
        """SHA-256 of times and boxes: equal for copies of a recording, whatever their names."""
        digest = hashlib.sha256(self.end_us.astype("<i8").tobytes())
        boxes = self.objects
        for array in (boxes.window, boxes.boxes, boxes.classes, boxes.track_ids):
            digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
        return digest.digest()

    def digest(self, settings: StreamSettings) -> bytes:
        """SHA-256 of the frames' file, times and boxes. Raises OSError where the file cannot be read."""
        path = _place(self.folder, settings) / representation_file(settings.half)
        return hashlib.sha256(bytes.fromhex(sha256_file(path)) + self.label_digest()).digest()


def read_frame_sequence(
    folder: Path, settings: StreamSettings, windows: int, class_names: list[str], files: OpenFiles
) -> FrameSequence:
    """Read all of a sequence but its frames, whose file is only looked into.

    Boxes are halved with the frames and cut to 0..W-1, 0..H-1; those without area are left out, and windows
    in which none stays have no label. Raises DatasetUnreadable where files are missing, do not fit each
    other, or do not have `windows` windows.
    """
    place = _place(folder, settings)
    path = place / representation_file(settings.half)
    shape = (windows, *settings.frame)
    dtype = REPRESENTATIONS.load(settings.representation)(bins=settings.bins).dtype
    try:
        with h5py.File(path, "r") as file:
            found = (file[DATASET].shape, file[DATASET].dtype)
        end_us = np.load(place / "timestamps_us.npy", allow_pickle=False)
        frame_index = np.load(place / "objframe_idx_2_repr_idx.npy", allow_pickle=False)
        times = np.load(folder / "labels_v2" / "timestamps_us.npy", allow_pickle=False)
        with np.load(folder / "labels_v2" / "labels.npz", allow_pickle=False) as labels:
            records, first_box = labels["labels"], labels["objframe_idx_2_label_idx"]
    except Exception as error:  # damaged files raise of every kind, zipfile's and zlib's among them
        raise damaged(folder, f"{type(error).__name__}: {error}") from error
    if found != (shape, dtype):
        raise damaged(path, f"frames are {found[1]} {list(found[0])}, not {dtype} {list(shape)}")
    if len(end_us) != windows or (np.diff(end_us) <= 0).any():
        raise damaged(place / "timestamps_us.npy", f"{windows} rising times are needed")
    if not _fit(records, first_box, frame_index, times, end_us):
        raise damaged(folder / "labels_v2", "boxes, label frames and windows do not fit each other")
    if len(records) and records["class_id"].max() >= len(class_names):
        raise damaged(folder / "labels_v2", f"class {records['class_id'].max()} is not in the class list")
    boxes = _in_frame(records, settings)
    objects = LabelledBoxes(
        np.repeat(frame_index, np.diff([*first_box.tolist(), len(records)])).astype(np.int64),
        boxes,
        records["class_id"].astype(np.int64),
        records["track_id"].astype(np.int64),
    ).moved(boxes)
    return FrameSequence(
        folder.name,
        folder,
        StoredFrames(path, shape, dtype, files),
        end_us.astype(np.int64),
        objects,
        np.unique(objects.window),
    )


def _in_frame(records: NDArray[np.void], settings: StreamSettings) -> NDArray[np.float32]:
    factor = np.float32(0.5 if settings.half else 1)
    _, height, width = settings.frame
    sides = []
    for corner, side, limit in (("x", "w", width - 1), ("y", "h", height - 1)):
        start = np.clip(records[corner] * factor, 0, limit)
        end = np.clip((records[corner] + records[side]) * factor, 0, limit)
        sides.append((start, end - start))
    (x, w), (y, h) = sides
    return np.stack([x, y, w, h], axis=1).astype(np.float32)


def _fit(
    records: NDArray[np.void],
    first_box: NDArray[Any],
    frame_index: NDArray[Any],
    times: NDArray[Any],
    end_us: NDArray[Any],
) -> bool:
    if records.dtype.names is None or not set(BOX.names or ()) <= set(records.dtype.names):
        return False
    if not len(first_box) == len(frame_index) == len(times) or not len(times) or first_box[0] != 0:
        return False
    indices = (np.diff(first_box) <= 0).any() or (np.diff(frame_index) <= 0).any()
    if indices or first_box[-1] >= len(records) or frame_index[0] < 0 or frame_index[-1] >= len(end_us):
        return False
    return bool(np.array_equal(end_us[frame_index], times))


def _place(folder: Path, settings: StreamSettings) -> Path:
    built = REPRESENTATIONS.load(settings.representation)(bins=settings.bins)
    return folder / "event_representations_v2" / str(built.folder(settings.window_ms))
