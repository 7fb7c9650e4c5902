import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from shared.data.cli import app
from shared.data.events.bench import compare, plain_add_at, plain_index_put
from shared.data.events.picture import event_picture
from shared.vision.events import Events
from tests.data.events.formats import Event, dat_header, dat_records

runner = CliRunner()


def call(*arguments: object, code: int = 0):
    result = runner.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def dat(tmp_path: Path) -> Path:
    """One event a millisecond for two seconds, then three of another kind of trouble."""
    events = [Event(1000 * step, step % 300, step % 200, step % 4 == 0) for step in range(2000)]
    events += [Event(1_999_000, 400, 0, 1), Event(1_500_000, 1, 1, 1)]
    path = tmp_path / "street_td.dat"
    path.write_bytes(dat_header() + dat_records([Event(*map(int, event)) for event in events]))
    return path


def test_the_overview_says_what_a_recording_holds(dat: Path) -> None:
    found = json.loads(call("events", dat, "--json").stdout)
    assert found == {
        "path": str(dat), "format": "dat", "sensor": [240, 304], "events": 2001,
        "brighter_share": 501 / 2001, "first_us": 0, "last_us": 1_999_000, "duration_s": 1.999,
        "mean_rate": 2001 / 1.999, "peak_rate": 51 / 0.05, "boxes": None, "label_times": None,
        "boxes_per_class": None, "repairs": {"time_backwards": 1, "outside_sensor": 1}, "picture": None,
    }  # fmt: skip
    text = call("events", dat).stdout
    assert "240 x 304" in text
    assert "events earlier than one before them, moved to its time" in text


def test_the_overview_of_a_simulated_recording_names_its_classes(simulated: Path, tmp_path: Path) -> None:
    picture = tmp_path / "sheet.png"
    recording = simulated / "train/train_day_0001_td.h5"
    found = json.loads(call("events", recording, "--picture", picture, "--count", 4, "--json").stdout)
    boxes = np.load(simulated / "train/train_day_0001_bbox.npy")
    counts = {
        name: int(np.count_nonzero(boxes["class_id"] == number))
        for number, name in enumerate(found["boxes_per_class"])
    }
    assert found["boxes_per_class"] == counts
    assert list(counts) == ["pedestrian", "vehicle", "micro-mobility"]
    assert (found["boxes"], found["label_times"]) == (len(boxes), len(np.unique(boxes["t"])))
    sheet = cv2.imread(str(picture))
    assert sheet.shape == (2 * (96 * 4 + 4), 2 * (128 * 4 + 4), 3)
    assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 5
    call("events", recording, "--picture", picture, code=2)  # it exists
    call("events", recording, "--picture", picture, "--force")
    call("events", recording, "--picture", tmp_path / "a.jpg", code=2)
    call("events", recording, "--classes", "car,bus", code=1)  # ids beyond the list


def test_a_picture_shows_the_last_sign_of_each_pixel() -> None:
    column = np.array([1, 1, 2], np.uint16)
    some = Events(np.arange(3), column, np.zeros(3, np.uint16), np.array([1, 0, 1], np.uint8))
    shown = event_picture(some, (1, 4))[0].tolist()
    assert shown[0] == shown[3] == [40, 42, 48]
    assert (shown[1], shown[2]) == ([80, 150, 255], [250, 250, 250])


def test_preprocess_from_the_command_line(simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    planned = json.loads(call("preprocess", simulated, out, "--dry-run", "--json").stdout)
    assert planned["to_write"] == ["train/train_day_0001", "train/train_day_0002", "val/val_day_0001"]
    assert not out.exists()
    done = json.loads(call("preprocess", simulated, out, "--half", "--workers", 1, "--json").stdout)
    assert sorted(done["written"]) == planned["to_write"]
    assert done["settings"]["classes"] == ["pedestrian", "vehicle", "micro-mobility"]
    assert done["written"]["val/val_day_0001"]["frame"] == [20, 48, 64]
    assert "3 were done before" in call("preprocess", simulated, out, "--half").stdout
    result = call("preprocess", simulated, out, code=2)
    assert "other settings (half)" in result.output
    assert "--force" in result.output


def test_gen1s_rules_come_with_its_classes_and_can_be_changed(simulated: Path, tmp_path: Path) -> None:
    arguments = ["preprocess", simulated, tmp_path / "a", "--dry-run", "--json"]
    settings = json.loads(call(*arguments, "--classes", "gen1").stdout)["settings"]
    assert (settings["min_side"], settings["min_diagonal"], settings["period_us"]) == (10, 30, 250_000)
    settings = json.loads(call(*arguments, "--classes", "gen1", "--min-side", 3, "--period-ms", 50).stdout)[
        "settings"
    ]
    assert (settings["min_side"], settings["min_diagonal"], settings["period_us"]) == (3, 30, 50_000)
    settings = json.loads(call(*arguments, "--classes", "etram8").stdout)["settings"]
    assert (settings["min_side"], settings["min_diagonal"], settings["period_us"]) == (5, 0, None)


def test_wrong_wishes_end_with_what_to_do(dat: Path, simulated: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "give --classes" in call("preprocess", dat, out, "--split", "train", code=2).output
    assert "--split" in call("preprocess", dat, out, "--classes", "gen1", code=1).output
    assert "did you mean" in call("preprocess", simulated, out, "--classes", "etram", code=2).output
    assert "did you mean" in call("preprocess", simulated, out, "--representation", "mixed", code=2).output
    assert "like 720x1280" in call("preprocess", simulated, out, "--sensor", "720", code=2).output
    assert "neither in" in call("preprocess", tmp_path / "nothing", out, code=3).output
    assert "neither in" in call("events", tmp_path / "nothing.dat", code=3).output
    result = call("preprocess", dat, out, "--classes", "gen1", "--split", "train", code=5)
    assert "no labels; street_bbox.npy is looked for beside it" in result.output


def test_recordings_of_several_sizes_are_refused_at_the_end(simulated: Path, tmp_path: Path) -> None:
    from tests.data.events.test_preprocess import hand_made

    hand_made(tmp_path / "set/train")
    hand_made(tmp_path / "set/train", "b", size=(480, 640))
    result = call(
        "preprocess", tmp_path / "set", tmp_path / "out", "--classes", "etram3", "--workers", 1, code=5
    )
    assert "1 of 240 x 304" in result.output
    assert "1 of 480 x 640" in result.output


def test_make_events_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "set"
    wishes = ["--train", 1, "--val", 0, "--test", 0, "--seconds", 1, "--size", "64x80", "--workers", 1]
    said = json.loads(call("make", "events", "--out", out, *wishes, "--dry-run", "--json").stdout)
    assert (said["written"], out.exists()) == (False, False)
    call("make", "events", "--out", out, *wishes)
    first = (out / "train/train_day_0001_td.h5").read_bytes()
    assert "--force" in call("make", "events", "--out", out, *wishes, code=2).output
    call("make", "events", "--out", out, *wishes, "--force", "--seed", 1)
    assert (out / "train/train_day_0001_td.h5").read_bytes() != first
    (out / "mine.txt").write_text("mine")
    assert "something else" in call("make", "events", "--out", out, *wishes, "--force", code=2).output


def test_the_benchmark_compares_like_with_like() -> None:
    result = compare(30_000, window_events=10_000, size=(60, 80), repeats=1, with_torch=True)
    assert (result.total, result.window_events, result.equal) == (30_000, 10_000, True)
    assert result.ours > 0
    assert result.over_add_at == pytest.approx(result.ours / result.add_at)
    assert result.over_index_put == pytest.approx(result.ours / result.index_put)


def test_the_plain_ways_count_as_the_formula_says() -> None:
    t = np.array([0, 0, 99, 100], np.int64)
    some = Events(
        t, np.array([1, 1, 2, 0], np.uint16), np.zeros(4, np.uint16), np.array([1, 1, 0, 0], np.uint8)
    )
    for build in (plain_add_at, plain_index_put):
        built = build(some, (1, 3))
        assert {tuple(place): int(built[tuple(place)]) for place in np.argwhere(built).tolist()} == {
            (10, 0, 1): 2, (9, 0, 2): 1, (9, 0, 0): 1
        }  # fmt: skip
