"""Sets of preprocessed recordings written by hand, from the layout in docs/events.md; nothing here reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np

from shared.data.events.classes import ClassList
from shared.data.events.label_rules import LabelRules
from shared.data.events.labels import BOX
from shared.data.events.sequence import PreprocessSettings

CLASSES = ("pedestrian", "vehicle")
PLACE = "event_representations_v2/stacked_histogram_dt=50_nbins={bins}"

# x, y, w, h in pixels of the sensor, class, track
Box = tuple[float, float, float, float, int, int]


@dataclass(frozen=True)
class Drawn:
    """boxes: by window, those of labelled ones. frames: by window, uint8 [C, H, W]; otherwise `frame_of`."""

    windows: int
    boxes: Mapping[int, list[Box]]
    frames: Mapping[int, np.ndarray] = field(default_factory=dict)


def labelled(windows: int, *where: int) -> Drawn:
    """A recording with the same box in the windows `where`."""
    return Drawn(windows, {window: [(8, 10, 12, 20, 0, 1)] for window in where})


def frame_of(window: int, shape: tuple[int, int, int]) -> np.ndarray:
    """Few pixels that are not zero, others in every window."""
    rng = np.random.default_rng(window)
    return ((rng.random(shape) < 0.02) * rng.integers(1, 11, shape)).astype(np.uint8)


def settings(*, bins: int = 1, half: bool = False, classes: tuple[str, ...] = CLASSES) -> PreprocessSettings:
    return PreprocessSettings(LabelRules(ClassList(classes)), bins=bins, half=half)


def write_set(
    folder: Path,
    splits: Mapping[str, Mapping[str, Drawn]],
    made: PreprocessSettings | None = None,
    sensor: tuple[int, int] = (64, 96),
) -> Path:
    """Write `folder` and return it."""
    made = made or settings()
    folder.mkdir(parents=True)
    (folder / "preprocess.json").write_text(json.dumps(made.describe(), indent=2))
    for split, recordings in splits.items():
        for name, drawn in recordings.items():
            write_recording(folder / split / name, drawn, made, sensor)
    return folder


def write_recording(
    folder: Path, drawn: Drawn, made: PreprocessSettings, sensor: tuple[int, int] = (64, 96)
) -> None:
    """Windows end every 50 ms, from 50 ms on."""
    place, labels = folder / PLACE.format(bins=made.bins), folder / "labels_v2"
    place.mkdir(parents=True)
    labels.mkdir()
    scale = 2 if made.half else 1
    shape = (2 * made.bins, sensor[0] // scale, sensor[1] // scale)
    frames = np.stack(
        [drawn.frames.get(window, frame_of(window, shape)) for window in range(drawn.windows)]
    ).astype(np.uint8)
    end_us = (np.arange(drawn.windows, dtype=np.int64) + 1) * 50_000
    name = "event_representations_ds2_nearest.h5" if made.half else "event_representations.h5"
    with h5py.File(place / name, "w") as file:
        file.create_dataset("data", data=frames, chunks=(1, *shape), compression=hdf5plugin.Blosc())
    windows = sorted(drawn.boxes)
    rows = [(window, box) for window in windows for box in drawn.boxes[window]]
    boxes = np.zeros(len(rows), BOX)
    for number, (window, (x, y, w, h, label, track)) in enumerate(rows):
        boxes[number] = (end_us[window], x, y, w, h, label, track, 1)
    starts = np.cumsum([0, *(len(drawn.boxes[window]) for window in windows)])[:-1]
    np.save(place / "timestamps_us.npy", end_us)
    np.save(place / "objframe_idx_2_repr_idx.npy", np.array(windows, np.int64))
    np.save(labels / "timestamps_us.npy", end_us[windows])
    np.savez(labels / "labels.npz", labels=boxes, objframe_idx_2_label_idx=starts.astype(np.int64))
    summary = {
        "settings": made.digest(),
        "sensor": list(sensor),
        "frame": list(shape),
        "windows": drawn.windows,
        "repairs": {},
    }
    (folder / "recording.json").write_text(json.dumps(summary))
