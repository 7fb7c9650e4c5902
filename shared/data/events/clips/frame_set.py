"""One split of preprocessed recordings, and the splits of a run."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from shared.config.schema import DataConfig
from shared.data.dataset import Defect, Severity
from shared.data.events.clips.documents import (
    SequenceDocument,
    SetDocument,
    read_sequence_document,
    read_set_document,
)
from shared.data.events.clips.frame_sequence import (
    FrameSequence,
    StreamSettings,
    read_frame_sequence,
)
from shared.data.events.clips.frames import OpenFiles, sparse
from shared.data.events.preprocess import SETTINGS_FILE
from shared.data.events.sequence import SUMMARY
from shared.data.formats.errors import DatasetUnreadable
from shared.data.splits import Splits, existing_split

_CACHE_SHARE = 0.7  # of the free memory; the rest is for the training itself


@dataclass(frozen=True)
class FrameSet:
    """Preprocessed recordings, all made with the same settings, by name; and what was wrong with them.

    source: the folder of all splits, as it was given.
    """

    records: list[FrameSequence]
    class_names: list[str]
    settings: StreamSettings
    source: str
    defects: list[Defect] = field(default_factory=list)
    files: OpenFiles = field(default_factory=OpenFiles, repr=False)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def windows(self) -> int:
        return sum(len(record) for record in self.records)

    @property
    def labelled_windows(self) -> int:
        return sum(len(record.labelled) for record in self.records)

    @property
    def box_count(self) -> int:
        return sum(len(record.objects) for record in self.records)

    def content_hash(self) -> str:
        """Return a SHA-256 (hex) over class names, frames' bytes, times and boxes, whatever the order.

        Names and paths do not count. Reads every byte of the frames' files. Raises OSError.
        """
        total = hashlib.sha256()
        for name in self.class_names:
            total.update(name.encode() + b"\0")
        for digest in sorted(record.digest(self.settings) for record in self.records):
            total.update(digest)
        return total.hexdigest()

    def cached(self, on_recording: Callable[[], None] | None = None) -> "FrameSet":
        """Return the same set with all frames in memory, kept as what is not zero.

        `on_recording` is called after each recording. Processes forked later share the memory. Raises
        MemoryError as soon as it is clear that they do not fit, DatasetUnreadable for a file that cannot
        be read.
        """
        room = _CACHE_SHARE * psutil.virtual_memory().available
        records: list[FrameSequence] = []
        used = done = 0
        for record in self.records:
            frames = sparse(record.frames)
            records.append(replace(record, frames=frames))
            used, done = used + frames.nbytes, done + len(record)
            if used > room:
                raise MemoryError(
                    f"keeping the frames of {len(self)} recordings needs about "
                    f"{used * self.windows / done / 2**30:.1f} GiB and {room / 2**30:.1f} GiB may be used; "
                    "use data.cache=none"
                )
            if on_recording:
                on_recording()
        self.files.close()
        return replace(self, records=records)


def find_frame_splits(path: Path) -> list[str]:
    """Return the names of the folders below `path` that hold preprocessed recordings."""
    return sorted({summary.parent.parent.name for summary in path.glob(f"*/[!.]*/{SUMMARY}")})


def read_frame_set(path: Path, split: str) -> FrameSet:
    """Read the recordings of one split of a folder that `sightline data preprocess` made.

    Raises DatasetUnreadable where there are none, files are damaged, or recordings were made with other
    settings than the set's or with sensors of different sizes.
    """
    document, digest = read_set_document(path)
    folders = sorted(file.parent for file in (path / split).glob(f"[!.]*/{SUMMARY}"))
    if not folders:
        raise DatasetUnreadable(f"{path / split} holds no preprocessed recording")
    summaries = {folder: read_sequence_document(folder) for folder in folders}
    settings = _common_settings(document, digest, summaries)
    files = OpenFiles()
    records = [
        read_frame_sequence(folder, settings, summary.windows, document.classes, files)
        for folder, summary in summaries.items()
    ]
    defects = [
        defect
        for folder, summary in summaries.items()
        for defect in _repairs(summary, f"{split}/{folder.name}")
    ]
    return FrameSet(records, document.classes, settings, str(path), defects, files)


def read_frame_splits(config: DataConfig, path: Path, class_names: list[str], seed: int) -> Splits[FrameSet]:
    """Read the splits that `config` names from `path`.

    Without a validation split (data.val=null), `val_fraction` of the training recordings is held out, whole
    ones, seeded, copies together. Raises ValueError, DatasetUnreadable among them: for a split that is not
    there, class names that are not those of the set in its order, splits with frames of different sizes.
    """
    if config.format != "auto":
        raise ValueError("preprocessed recordings have one layout; leave data.format at auto")
    names = read_set_document(path)[0].classes
    if names != class_names:
        raise ValueError(
            f"{path} has the classes {', '.join(names)} and the model {', '.join(class_names)}; set "
            f"model.class_names='[{','.join(names)}]', or preprocess the recordings again with --classes"
        )
    there = find_frame_splits(path)
    if not there:
        raise DatasetUnreadable(
            f"{path} holds no preprocessed recording; make some with `sightline data preprocess`"
        )
    train = read_frame_set(path, existing_split(config.train, there, "data.train"))
    test = read_frame_set(path, config.test) if config.test in there else None
    if config.val == config.train:
        splits = Splits(train, train, test, cut_off=False)
    elif config.val is None:
        train, val = split_frame_set(train, config.val_fraction, seed=seed)
        splits = Splits(train, val, test, cut_off=True)
    else:
        val = read_frame_set(path, existing_split(config.val, there, "data.val"))
        splits = Splits(train, val, test, cut_off=False)
    for name, part in (("validation", splits.val), ("test", splits.test)):
        if part is not None and part.settings != train.settings:
            raise ValueError(
                f"the {name} split of {path} has frames of {list(part.settings.frame)}, the training split "
                f"of {list(train.settings.frame)} (channels, height, width)"
            )
    return splits


def split_frame_set(frames: FrameSet, val_fraction: float, *, seed: int = 0) -> tuple[FrameSet, FrameSet]:
    """Return (training set, validation set); about `val_fraction` (0..1) of the recordings go to the second.

    Copies stay on one side. Which side depends on times, boxes and the seed, not on names or order. Raises
    ValueError where the fraction is not between 0 and 1 or there is only one different recording.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, got {val_fraction}")
    copies: dict[bytes, list[FrameSequence]] = {}
    for record in frames.records:
        copies.setdefault(record.label_digest(), []).append(record)
    if len(copies) < 2:
        raise ValueError(
            f"{frames.source} has {len(copies)} different recordings; at least 2 are needed to split"
        )
    shuffled = sorted(copies, key=lambda digest: hashlib.sha256(f"{seed} ".encode() + digest).digest())
    wanted = max(1, round(val_fraction * len(frames)))
    chosen: set[str] = set()
    for digest in shuffled[:-1]:
        if len(chosen) >= wanted:
            break
        chosen.update(record.name for record in copies[digest])
    train = [record for record in frames.records if record.name not in chosen]
    val = [record for record in frames.records if record.name in chosen]
    return replace(frames, records=train), replace(frames, records=val)


def _common_settings(
    document: SetDocument, digest: str, summaries: Mapping[Path, SequenceDocument]
) -> StreamSettings:
    first = next(iter(summaries))
    for folder, summary in summaries.items():
        if summary.settings != digest:
            raise DatasetUnreadable(
                f"{folder} was made with other settings than the set's {SETTINGS_FILE} states; "
                "run `sightline data preprocess` again with --force"
            )
        if (summary.sensor, summary.frame) != (summaries[first].sensor, summaries[first].frame):
            raise DatasetUnreadable(
                f"{first} has frames of {list(summaries[first].frame)} and {folder.name} of "
                f"{list(summary.frame)} (channels, height, width); train on recordings of one sensor"
            )
    return StreamSettings(
        document.representation,
        document.bins,
        document.window_ms,
        document.half,
        summaries[first].sensor,
        summaries[first].frame,
        document.cutoff,
    )


def _repairs(document: SequenceDocument, where: str) -> list[Defect]:
    return [
        Defect(Severity.NOTE, code, where, f"{count} mended when the recording was preprocessed")
        for code, count in document.repairs.items()
        if count
    ]
