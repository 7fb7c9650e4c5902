import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from shared.data.events.classes import CLASS_LISTS
from shared.data.events.label_rules import LabelRules
from shared.data.events.layout import find_recordings
from shared.data.events.preprocess import OutputInUse, plan, preprocess
from shared.data.events.sequence import PreprocessSettings, write_sequence
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram
from tests.data.events.formats import Event, box_records, write_columns

ETRAM = PreprocessSettings(LabelRules(CLASS_LISTS["etram3"]))
FRAMES = "event_representations_v2/stacked_histogram_dt=50_nbins=10"


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def run(source: Path, out: Path, settings: PreprocessSettings = ETRAM, *, force: bool = False, **options):
    planned = plan(find_recordings(source), out, settings, force=force)
    return preprocess(planned, out, settings, workers=1, **options)


@pytest.fixture(scope="module")
def done(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    assert run(simulated, out).failed == {}
    return out


def columns(path: Path) -> Events:
    with h5py.File(path) as file:
        return Events(*(file[f"events/{name}"][:] for name in "txy"), file["events/p"][:].astype(np.uint8))


def test_frames_are_the_histograms_of_their_windows(simulated: Path, done: Path) -> None:
    some = columns(simulated / "train/train_day_0001_td.h5")
    folder = done / "train/train_day_0001" / FRAMES
    times = np.load(folder / "timestamps_us.npy")
    assert times.dtype == np.int64
    with h5py.File(folder / "event_representations.h5") as file:
        data = file["data"]
        assert (data.shape, data.dtype, data.chunks) == (
            (len(times), 20, 96, 128),
            np.uint8,
            (1, 20, 96, 128),
        )
        plist = data.id.get_create_plist()
        code, _, options, _ = plist.get_filter(0)
        assert (code, options[4], options[5], options[6]) == (32001, 1, 1, 5)  # Blosc: level 1, bytes, zstd
        assert data[:].any()
        for number, end in enumerate(times.tolist()):
            window = some[(some.t >= end - 50_000) & (some.t <= end)]
            assert np.array_equal(data[number], stacked_histogram(window, (96, 128)))


def test_labels_lie_where_the_indices_say(simulated: Path, done: Path) -> None:
    boxes = np.load(simulated / "train/train_day_0001_bbox.npy")
    folder = done / "train/train_day_0001"
    labels = np.load(folder / "labels_v2/labels.npz")
    times = np.load(folder / "labels_v2/timestamps_us.npy")
    index = np.load(folder / FRAMES / "objframe_idx_2_repr_idx.npy")
    assert np.array_equal(np.load(folder / FRAMES / "timestamps_us.npy")[index], times)
    starts = [*labels["objframe_idx_2_label_idx"].tolist(), len(labels["labels"])]
    assert len(starts) == len(times) + 1 > 20
    for now_us, start, end in zip(times.tolist(), starts[:-1], starts[1:], strict=True):
        rows = labels["labels"][start:end]
        assert end > start
        assert set(rows["t"].tolist()) == {now_us}
        now = boxes[boxes["t"] == now_us]
        assert set(rows["track_id"].tolist()) <= set(now["track_id"].tolist())


def test_every_run_gives_the_same_bytes_and_a_second_one_has_nothing_to_do(
    simulated: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    run(simulated, out)
    assert tree(out) == tree(done)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")}
    report = run(simulated, out)
    assert (report.written, sorted(report.kept)) == (
        {},
        ["train/train_day_0001", "train/train_day_0002", "val/val_day_0001"],
    )
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.h5")} == before


def test_a_run_goes_on_where_another_was_killed(simulated: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    shutil.rmtree(out / "train/train_day_0002")
    leftover = out / "train/.train_day_0002-abc"
    leftover.mkdir()
    (leftover / "half.h5").write_bytes(b"half")
    report = run(simulated, out)
    assert (sorted(report.written), len(report.kept)) == (["train/train_day_0002"], 2)
    assert tree(out) == tree(done)


def test_other_settings_are_refused_unless_forced(simulated: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    half = PreprocessSettings(ETRAM.rules, half=True)
    with pytest.raises(ValueError, match=r"other settings \(half\)"):
        run(simulated, out, half)
    report = run(simulated, out, half, force=True)
    assert len(report.written) == 3
    folder = out / "val/val_day_0001" / FRAMES
    with (
        h5py.File(folder / "event_representations_ds2_nearest.h5") as file,
        h5py.File(done / "val/val_day_0001" / FRAMES / "event_representations.h5") as whole,
    ):
        assert np.array_equal(file["data"][:], whole["data"][:, :, 1::2, 1::2])
    assert not (folder / "event_representations.h5").exists()
    # Labels stay in pixels of the sensor, as RVT halves them when it loads them.
    name = "val/val_day_0001/labels_v2/labels.npz"
    assert (out / name).read_bytes() == (done / name).read_bytes()


def test_folders_that_are_not_ours_are_left_alone(simulated: Path, done: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else"):
        run(simulated, tmp_path / "mine", force=True)
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / "val/val_day_0001/recording.json").unlink()
    with pytest.raises(ValueError, match="val_day_0001 is there"):
        run(simulated, out)


@pytest.mark.parametrize(
    ("name", "shape", "kind"), [("mixed_density", 10, "i1"), ("ternary_volume", 10, "i1")]
)
def test_other_representations_go_the_same_way(
    simulated: Path, tmp_path: Path, name: str, shape: int, kind: str
) -> None:
    (found,) = [found for found in find_recordings(simulated) if found.split == "val"]
    write_sequence(found, tmp_path / "a", PreprocessSettings(ETRAM.rules, representation=name))
    (file,) = (tmp_path / "a").rglob("*.h5")
    assert name.split("_")[0] in file.parent.name
    with h5py.File(file) as opened:
        assert opened["data"].shape[1:] == (shape, 96, 128)
        assert opened["data"].dtype == kind
        assert opened["data"][:].min() < 0


def hand_made(folder: Path, name: str = "train_day_0001", **changes) -> Path:
    """One second of events in two rows; boxes of two classes every 50 ms."""
    events = [Event(step * 500, step % 100, 20 + step % 2, step % 2) for step in range(2000)]
    folder.mkdir(parents=True, exist_ok=True)
    write_columns(folder / f"{name}_td.h5", events, **changes)
    rows = [
        (t, 10, 10, 20 + kind, 20, kind, kind, 1) for t in range(50_000, 1_050_000, 50_000) for kind in (0, 2)
    ]
    np.save(folder / f"{name}_bbox.npy", box_records(rows))
    return folder


def test_the_summary_counts_what_became_of_everything(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "train")
    report = run(source.parent, tmp_path / "out")
    summary = report.written["train/train_day_0001"]
    assert json.loads((tmp_path / "out/train/train_day_0001/recording.json").read_text()) == summary
    assert summary["events"] == 2000
    assert summary["windows"] == 20  # 50, 100, ... 1000 ms
    assert summary["label_frames"] == 10  # 100, 200, ... 1000 ms
    assert summary["boxes_per_class"] == {"pedestrian": 10, "vehicle": 0, "micro-mobility": 10}
    assert summary["boxes_between_label_frames"] == 20
    assert (summary["sensor"], summary["frame"], summary["repairs"]) == ([240, 304], [20, 240, 304], {})


def test_one_bad_recording_stops_no_other(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "data/train")
    hand_made(source, "b")
    shutil.copy(source / "train_day_0001_td.h5", source / "without_td.h5")
    hand_made(source, "cut")
    data = (source / "cut_td.h5").read_bytes()
    (source / "cut_td.h5").write_bytes(data[: len(data) // 2])
    hand_made(source, "ids")
    boxes = np.load(source / "ids_bbox.npy")
    boxes["class_id"][3] = 9
    np.save(source / "ids_bbox.npy", boxes)
    hand_made(source, "off", size=(240, 40))  # three in five events lie beyond
    report = run(tmp_path / "data", tmp_path / "out")
    assert sorted(report.written) == ["train/b", "train/train_day_0001"]
    reasons = {
        "without": "no labels",
        "cut": "not a whole HDF5 file",
        "ids": r"class ids [9]",
        "off": "--sensor",
    }
    assert sorted(report.failed) == [f"train/{name}" for name in sorted(reasons)]
    for name, text in reasons.items():
        assert text in report.failed[f"train/{name}"]
    assert sorted(path.name for path in (tmp_path / "out/train").iterdir()) == ["b", "train_day_0001"]


def test_progress_is_told_and_several_workers_give_the_same_bytes(tmp_path: Path) -> None:
    source = hand_made(tmp_path / "data/train")
    hand_made(source, "b")
    seen = []
    run(tmp_path / "data", tmp_path / "one", on_progress=lambda *step: seen.append(step))
    assert {step for step in seen if step[1] == step[2]} == {
        ("train/b", 20, 20),
        ("train/train_day_0001", 20, 20),
    }
    planned = plan(find_recordings(tmp_path / "data"), tmp_path / "two", ETRAM, force=False)
    preprocess(planned, tmp_path / "two", ETRAM, workers=2)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_two_runs_do_not_write_to_one_folder(tmp_path: Path) -> None:
    from fcntl import LOCK_EX, flock

    source = hand_made(tmp_path / "train")
    out = tmp_path / "out"
    out.mkdir()
    with (out / ".lock").open("w") as file:
        flock(file, LOCK_EX)
        with pytest.raises(OutputInUse, match="another run"):
            run(source.parent, out)
    assert [path.name for path in out.iterdir()] == [".lock"]


def test_ctrl_c_ends_the_workers_without_their_traces_and_the_next_run_goes_on(
    simulated: Path, done: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "shared.cli.main", "data", "preprocess", str(simulated), str(out)]
    process = subprocess.Popen(
        [*command, "--workers", "1"],
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=_interruptible,
    )
    deadline = time.monotonic() + 60
    while not list(out.glob("train/.train_day_0001-*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in said
    assert run(simulated, out).failed == {}
    assert tree(out) == tree(done)


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
