import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from shared.config.schema import DataConfig
from shared.data.dataset import Severity
from shared.data.events.classes import CLASS_LISTS
from shared.data.events.clips.frame_sequence import FrameSequence
from shared.data.events.clips.frame_set import (
    FrameSet,
    find_frame_splits,
    read_frame_set,
    read_frame_splits,
    split_frame_set,
)
from shared.data.events.clips.frames import OpenFiles
from shared.data.events.label_rules import LabelRules
from shared.data.events.layout import find_recordings
from shared.data.events.preprocess import plan, preprocess
from shared.data.events.sequence import PreprocessSettings
from shared.data.events.simulator.generate import generate_events
from shared.data.formats.errors import DatasetUnreadable
from tests.data.events.clips.preprocessed import (
    CLASSES,
    PLACE,
    Drawn,
    frame_of,
    labelled,
    settings,
    write_recording,
    write_set,
)

NAMES = list(CLASSES)
SHAPE = (2, 64, 96)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    drawn = Drawn(6, {2: [(8, 10, 12, 20, 0, 7), (90, 40, 30, 10, 1, 9)], 5: [(0, 0, 5, 5, 1, 9)]})
    return write_set(
        tmp_path / "set",
        {"train": {"a": drawn, "b": labelled(4, 3)}, "val": {"c": labelled(3, 0)}},
    )


def test_a_sequence_has_its_frames_times_and_boxes(path: Path) -> None:
    frames = read_frame_set(path, "train")
    assert (len(frames), frames.class_names, frames.windows, frames.labelled_windows) == (2, NAMES, 10, 3)
    assert (frames.settings.sensor, frames.settings.frame, frames.settings.cutoff) == ((64, 96), SHAPE, 10)
    a = frames.records[0]
    assert (a.name, len(a), a.labelled.tolist(), a.frame_shape) == ("a", 6, [2, 5], SHAPE)
    assert a.end_us.tolist() == [50_000, 100_000, 150_000, 200_000, 250_000, 300_000]
    assert np.array_equal(a.read(1, 4), np.stack([frame_of(window, SHAPE) for window in (1, 2, 3)]))
    boxes = a.boxes(1, 3)
    assert boxes.window.tolist() == [2, 2]
    assert boxes.boxes.tolist() == [[8, 10, 12, 20], [90, 40, 5, 10]]  # the second cut at column 95
    assert boxes.corners.tolist() == [[8, 10, 20, 30], [90, 40, 95, 50]]
    assert (boxes.classes.tolist(), boxes.track_ids.tolist()) == ([0, 1], [7, 9])
    assert len(a.boxes(3, 5)) == 0
    with pytest.raises(IndexError, match="windows 0 to 5"):
        a.read(4, 7)


def test_boxes_are_halved_with_the_frames_and_those_without_area_are_left_out(tmp_path: Path) -> None:
    boxes = {1: [(8, 10, 13, 20, 0, 1)], 2: [(94.5, 10, 1, 20, 0, 1)], 3: [(80, 50, 16, 14, 1, 2)]}
    path = write_set(tmp_path / "set", {"train": {"a": Drawn(4, boxes)}}, settings(half=True))
    record = read_frame_set(path, "train").records[0]
    assert record.frame_shape == (2, 32, 48)
    assert record.objects.boxes.tolist() == [[4, 5, 6.5, 10], [40, 25, 7, 6]]  # cut at 47 and 31
    assert record.labelled.tolist() == [1, 3]  # 94.5 / 2 is beyond 47


def test_frames_kept_in_memory_are_the_same(path: Path) -> None:
    frames = read_frame_set(path, "train")
    calls: list[int] = []
    cached = frames.cached(lambda: calls.append(1))
    shutil.rmtree(path)
    assert len(calls) == 2
    expected = np.stack([frame_of(window, SHAPE) for window in range(6)])
    assert np.array_equal(cached.records[0].read(0, 6), expected)
    assert np.array_equal(cached.records[0].read(4, 6), expected[4:])
    again = cached.records[0].read(4, 6)
    again[:] = 77  # the reader's own
    assert np.array_equal(cached.records[0].read(4, 6), expected[4:])


def test_frames_that_do_not_fit_into_memory_are_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    with pytest.raises(MemoryError, match=r"data\.cache=none"):
        read_frame_set(path, "train").cached()


def test_what_preprocess_writes_is_read(tmp_path: Path) -> None:
    generate_events(tmp_path / "raw", count={"train": 1}, size=(64, 64), seconds=2, seed=1)
    for name, channels, dtype in (("stacked_histogram", 4, np.uint8), ("mixed_density", 2, np.int8)):
        made = PreprocessSettings(LabelRules(CLASS_LISTS["etram3"]), representation=name, bins=2)
        out = tmp_path / name
        todo = plan(find_recordings(tmp_path / "raw"), out, made, force=False)
        assert preprocess(todo, out, made, workers=1).failed == {}
        frames = read_frame_set(out, "train")
        record = frames.records[0]
        summary = json.loads((record.folder / "recording.json").read_text())
        assert (frames.settings.representation, frames.settings.window_ms) == (name, 50)
        assert (len(record), len(record.labelled)) == (summary["windows"], summary["label_frames"])
        assert len(record.objects) == summary["boxes"]
        everything = record.read(0, len(record))
        assert (everything.shape[1:], everything.dtype) == ((channels, 64, 64), dtype)
        assert everything.any()
        assert np.array_equal(frames.cached().records[0].read(0, len(record)), everything)


def test_few_files_are_open_at_once_and_copies_open_their_own(path: Path) -> None:
    frames = read_frame_set(path, "train")
    files = OpenFiles(limit=1)
    stored = [record.folder / PLACE.format(bins=1) / "event_representations.h5" for record in frames.records]
    first = files.dataset(stored[0])
    assert first.shape == (6, *SHAPE)
    assert files.dataset(stored[1]).shape == (4, *SHAPE)
    assert len(files) == 1
    assert not first  # closed
    copy = pickle.loads(pickle.dumps(files))
    assert len(copy) == 0
    files.close()
    assert files.dataset(stored[0]).shape == (6, *SHAPE)


def _sum(record: FrameSequence, results) -> None:
    results.put(int(record.read(0, len(record)).sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_sequence_is_read_in_another_process(path: Path, method: str) -> None:
    record = read_frame_set(path, "train").records[0]
    expected = int(record.read(0, len(record)).sum())  # the file is open here
    context = multiprocessing.get_context(method)
    results = context.Queue()
    process = context.Process(target=_sum, args=(record, results))
    process.start()
    assert results.get(timeout=30) == expected > 0
    process.join(30)
    assert process.exitcode == 0
    assert int(record.read(0, len(record)).sum()) == expected


def test_content_does_not_depend_on_names_and_order_but_on_every_byte(path: Path, tmp_path: Path) -> None:
    before = read_frame_set(path, "train").content_hash()
    other = tmp_path / "other"
    shutil.copytree(path, other)
    (other / "train/a").rename(other / "train/z")
    assert read_frame_set(other, "train").content_hash() == before
    shutil.rmtree(other / "train/z")
    boxes = {2: [(8, 10, 12, 20, 0, 7), (90, 40, 30, 10, 1, 9)], 5: [(0, 0, 5, 5, 1, 9)]}
    write_recording(other / "train/z", Drawn(6, boxes, {0: np.zeros(SHAPE)}), settings())
    changed = read_frame_set(other, "train").content_hash()
    shutil.rmtree(other / "train/z")
    write_recording(other / "train/z", Drawn(6, boxes | {5: [(0, 0, 5, 6, 1, 9)]}), settings())
    assert len({before, changed, read_frame_set(other, "train").content_hash()}) == 3


def test_repairs_of_preprocessing_are_told(path: Path) -> None:
    file = path / "train/b/recording.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"repairs": {"polarity": 3, "cut_off": 0}}))
    defects = read_frame_set(path, "train").defects
    assert [(defect.severity, defect.code, defect.where) for defect in defects] == [
        (Severity.NOTE, "polarity", "train/b")
    ]
    assert "3" in defects[0].detail


def config(**values) -> DataConfig:
    return DataConfig(path="unused", **values)


def names(frames: FrameSet | None) -> list[str]:
    return [record.name for record in frames.records] if frames else []


def test_splits_are_those_of_the_folder(path: Path) -> None:
    assert find_frame_splits(path) == ["train", "val"]
    splits = read_frame_splits(config(), path, NAMES, seed=0)
    assert (names(splits.train), names(splits.val)) == (["a", "b"], ["c"])
    assert (splits.test, splits.cut_off) == (None, False)
    same = read_frame_splits(config(val="train"), path, NAMES, seed=0)
    assert same.val is same.train


def test_recordings_are_held_out_without_a_validation_split(tmp_path: Path) -> None:
    recordings = {f"r{number}": labelled(6, number) for number in range(6)}
    recordings["copy"] = recordings["r0"]
    path = write_set(tmp_path / "set", {"train": recordings})
    sides = set()
    for seed in range(20):
        splits = read_frame_splits(config(val=None, val_fraction=0.3), path, NAMES, seed)
        train, val = names(splits.train), names(splits.val)
        assert sorted(train + val) == sorted(recordings)
        assert splits.cut_off
        assert 2 <= len(val) <= 3  # 0.3 of 7; copies come together
        assert ("r0" in train) == ("copy" in train)
        again = read_frame_splits(config(val=None, val_fraction=0.3), path, NAMES, seed)
        assert names(again.val) == val
        sides.add(tuple(val))
    assert len(sides) > 3
    one = read_frame_set(write_set(tmp_path / "one", {"train": {"a": labelled(3, 1)}}), "train")
    with pytest.raises(ValueError, match="at least 2 are needed"):
        split_frame_set(one, 0.5)


def test_a_set_that_does_not_fit_the_run_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no split 'valley'; set data\.val to one of train, val"):
        read_frame_splits(config(val="valley"), path, NAMES, 0)
    with pytest.raises(ValueError, match=r"classes pedestrian, vehicle and the model vehicle, pedestrian"):
        read_frame_splits(config(), path, NAMES[::-1], 0)
    with pytest.raises(ValueError, match=r"data\.format at auto"):
        read_frame_splits(config(format="coco"), path, NAMES, 0)
    with pytest.raises(DatasetUnreadable, match=r"test holds no preprocessed recording"):
        read_frame_set(path, "test")
    with pytest.raises(DatasetUnreadable, match="not a folder that `sightline data preprocess` made"):
        read_frame_splits(config(), tmp_path, NAMES, 0)
    for inside in ("preprocess.json", "train"):
        with pytest.raises(DatasetUnreadable, match=rf"has no preprocess\.json: .*; {path} is one"):
            read_frame_splits(config(), path / inside, NAMES, 0)
    empty = write_set(tmp_path / "empty", {})
    with pytest.raises(DatasetUnreadable, match="make some with"):
        read_frame_splits(config(), empty, NAMES, 0)


def test_recordings_of_other_settings_or_sensors_are_refused(path: Path) -> None:
    write_recording(path / "train/d", labelled(3, 1), settings(bins=2))
    with pytest.raises(DatasetUnreadable, match=r"d was made with other settings .*--force"):
        read_frame_set(path, "train")
    shutil.rmtree(path / "train/d")
    write_recording(path / "train/d", labelled(3, 1), settings(), sensor=(64, 64))
    with pytest.raises(DatasetUnreadable, match=r"\[2, 64, 96\] and d of \[2, 64, 64\]"):
        read_frame_set(path, "train")
    shutil.move(path / "train/d", path / "val/d")
    shutil.rmtree(path / "val/c")
    with pytest.raises(ValueError, match=r"validation split .* \[2, 64, 64\]"):
        read_frame_splits(config(), path, NAMES, 0)


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE = {
    "frames missing": lambda folder: (folder / PLACE.format(bins=1) / "event_representations.h5").unlink(),
    "frames cut": lambda folder: _cut(folder / PLACE.format(bins=1) / "event_representations.h5"),
    "times missing": lambda folder: (folder / PLACE.format(bins=1) / "timestamps_us.npy").unlink(),
    "times fall": lambda folder: np.save(
        folder / PLACE.format(bins=1) / "timestamps_us.npy", np.arange(6)[::-1]
    ),
    "index beyond": lambda folder: np.save(
        folder / PLACE.format(bins=1) / "objframe_idx_2_repr_idx.npy", [2, 6]
    ),
    "labels cut": lambda folder: _cut(folder / "labels_v2/labels.npz"),
    "label times": lambda folder: np.save(folder / "labels_v2/timestamps_us.npy", [150_000, 250_000]),
    "class unknown": lambda folder: np.savez(
        folder / "labels_v2/labels.npz",
        labels=_with_class(folder / "labels_v2/labels.npz", 2),
        objframe_idx_2_label_idx=[0, 2],
    ),
    "summary cut": lambda folder: _cut(folder / "recording.json"),
    "other windows": lambda folder: (folder / "recording.json").write_text(
        (folder / "recording.json").read_text().replace('"windows": 6', '"windows": 7')
    ),
}


def _with_class(file: Path, number: int) -> np.ndarray:
    with np.load(file) as labels:
        boxes = labels["labels"].copy()
    boxes["class_id"][0] = number
    return boxes


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_sequence_is_named_with_what_to_do(path: Path, damage: str) -> None:
    DAMAGE[damage](path / "train/a")
    with pytest.raises(
        DatasetUnreadable, match=r"train/a.* is not whole .*`sightline data preprocess` again"
    ):
        read_frame_set(path, "train")


@pytest.mark.parametrize("text", ["", "[]", '{"classes": []}', '{"classes": ["a"], "bins": "ten"}'])
def test_unusable_settings_are_named(path: Path, text: str) -> None:
    (path / "preprocess.json").write_text(text)
    with pytest.raises(DatasetUnreadable, match=r"preprocess\.json cannot be used"):
        read_frame_set(path, "train")


def test_frames_that_go_while_in_use_are_an_error(path: Path) -> None:
    record = read_frame_set(path, "train").records[0]
    shutil.rmtree(path)
    with pytest.raises(DatasetUnreadable, match="cannot be read"):
        record.read(0, 1)
