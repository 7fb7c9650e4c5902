"""One recording made ready for training: windows of events as channels, labels, and where they belong.

The files and their names are RVT's, so that either side reads the other's. Events spec, sections 7 and 8.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from shared.core.files import atomic_directory
from shared.data.events.label_rules import LabelFrames, LabelRules, filter_boxes, label_frames
from shared.data.events.labels import labels_after, read_boxes, without_padding
from shared.data.events.layout import FoundRecording
from shared.data.events.recording import Recording, open_recording
from shared.data.events.repairs import RecordingUnreadable, Repair
from shared.data.events.windows import windows
from shared.vision.event_stacks import REPRESENTATIONS, Representation
from shared.vision.events import Events
from shared.vision.histogram import reduced

SUMMARY = "recording.json"


@dataclass(frozen=True)
class PreprocessSettings:
    """What decides the bytes of a sequence. sensor: (height, width) instead of what the file states."""

    rules: LabelRules
    representation: str = "stacked_histogram"
    bins: int = 10
    window_ms: int = 50
    half: bool = False
    sensor: tuple[int, int] | None = None

    def build(self) -> Representation:
        """The representation. Raises UnknownName for one that is not registered."""
        made: Representation = REPRESENTATIONS.load(self.representation)(bins=self.bins)
        return made

    def describe(self) -> dict[str, Any]:
        """The settings as JSON values."""
        built = self.build()
        return {
            "classes": list(self.rules.classes.names),
            "ignored_class_ids": sorted(self.rules.classes.ignored),
            "min_side": self.rules.min_side,
            "min_diagonal": self.rules.min_diagonal,
            "period_us": self.rules.period_us,
            "representation": self.representation,
            "bins": self.bins,
            "cutoff": getattr(built, "cutoff", None),
            "window_ms": self.window_ms,
            "half": self.half,
            "sensor": list(self.sensor) if self.sensor else None,
        }

    def digest(self) -> str:
        """Short name of these settings: two that differ have different ones."""
        return settings_digest(self.describe())


def settings_digest(described: dict[str, Any]) -> str:
    """The digest of what `PreprocessSettings.describe` gave."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]


def representation_file(half: bool) -> str:
    """File name of the frames, as RVT has it."""
    return f"event_representations{'_ds2_nearest' if half else ''}.h5"


def write_sequence(
    found: FoundRecording,
    out: Path,
    settings: PreprocessSettings,
    on_window: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the sequence of one recording to `out`, in one step, and return its summary.

    `on_window` is called with the windows done and all. The same recording and settings give the same bytes.
    Raises FileExistsError if `out` exists, RecordingUnreadable for a recording or labels that cannot be used.
    """
    if found.labels is None:
        raise RecordingUnreadable(
            f"{found.path} has no labels; {found.name}_bbox.npy is looked for beside it"
        )
    recording = open_recording(found.path, settings.sensor)
    label_repairs = recording.repairs
    boxes = read_boxes(found.labels, label_repairs)
    label_counts = label_repairs.as_dict()
    kept, taken = filter_boxes(
        boxes, recording.size, settings.rules, training=found.split == "train", name=str(found.labels)
    )
    window_us = settings.window_ms * 1000
    frames = label_frames(kept, settings.rules, window_us=window_us, name=str(found.labels))
    with atomic_directory(out) as folder:
        written = _write_frames(folder, recording, frames, settings, on_window)
        recording.repairs.count(Repair.LABELS_AFTER_LAST_EVENT, labels_after(boxes, written.last_event_us))
        _write_labels(folder / "labels_v2", frames)
        summary = {
            "source": found.path.name,
            "split": found.split,
            "settings": settings.digest(),
            "sensor": list(recording.size),
            "frame": [settings.build().channels, *reduced(recording.size, settings.half)],
            "format": recording.format,
            "events": written.events,
            "last_event_us": written.last_event_us,
            "windows": len(frames.representations),
            "windows_without_events": written.empty,
            "label_frames": len(frames.times),
            "boxes": len(frames.boxes),
            "boxes_per_class": {
                name: int(np.count_nonzero(frames.boxes["class_id"] == number))
                for number, name in enumerate(settings.rules.classes.names)
            },
            "boxes_filtered": taken,
            "boxes_between_label_frames": len(kept) - len(frames.boxes),
            "repairs": {**label_counts, **recording.repairs.as_dict()},
        }
        (folder / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    return summary


@dataclass
class _Written:
    events: int = 0
    last_event_us: int = -1
    empty: int = 0


def _write_frames(
    folder: Path,
    recording: Recording,
    frames: LabelFrames,
    settings: PreprocessSettings,
    on_window: Callable[[int, int], None] | None,
) -> _Written:
    represent, size = settings.build(), recording.size
    place = folder / "event_representations_v2" / represent.folder(settings.window_ms)
    place.mkdir(parents=True)
    shape = (represent.channels, *reduced(size, settings.half))
    total, written = len(frames.representations), _Written()
    stream = _counted(recording.chunks(), written)
    frame: NDArray[Any] = np.zeros(shape, represent.dtype)
    with h5py.File(place / representation_file(settings.half), "w") as file:
        data = file.create_dataset(
            "data",
            shape=(total, *shape),
            dtype=represent.dtype,
            chunks=(1, *shape),
            track_times=False,
            compression=hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE),
        )
        cut = windows(stream, frames.representations, settings.window_ms * 1000)
        for number, events in enumerate(cut):
            written.empty += not len(events)
            data[number] = represent(events, size, half=settings.half, out=frame)
            if on_window:
                on_window(number + 1, total)
    for _ in stream:  # the rest is read for its defects
        pass
    np.save(place / "timestamps_us.npy", frames.representations)
    np.save(place / "objframe_idx_2_repr_idx.npy", frames.frame_index)
    return written


def _counted(chunks: Iterator[Events], written: _Written) -> Iterator[Events]:
    for chunk in chunks:
        written.events += len(chunk)
        written.last_event_us = int(chunk.t[-1])
        yield chunk


def _write_labels(folder: Path, frames: LabelFrames) -> None:
    folder.mkdir()
    boxes = without_padding(frames.boxes)
    np.savez(folder / "labels.npz", labels=boxes, objframe_idx_2_label_idx=frames.first_box)
    np.save(folder / "timestamps_us.npy", frames.times)
