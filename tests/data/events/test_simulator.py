from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest

from shared.data.events.recording import open_recording
from shared.data.events.simulator.generate import generate_events
from shared.data.events.simulator.scene import Scene
from shared.data.events.simulator.sensor import EventSensor, SensorSettings
from shared.vision.events import Events

QUIET = SensorSettings(threshold=0.2, threshold_spread=0, refractory_us=0, noise_hz=0, hot_share=0)


def sensor(settings: SensorSettings = QUIET, size: tuple[int, int] = (1, 1)) -> EventSensor:
    return EventSensor(settings, np.zeros(size, np.float32), np.random.default_rng(0))


def ramp(camera: EventSensor, to: float, start_us: int, end_us: int) -> list[tuple[int, bool]]:
    found = camera.step(start_us, end_us, (0, 1, 0, 1), np.full((1, 1), to, np.float32))
    return [(int(t), bool(p)) for part in found for t, p in zip(part.t, part.p, strict=True)]


def test_a_pixel_reports_every_threshold_at_the_time_it_is_crossed() -> None:
    # From 0 to 1.0 in 1000 us: thresholds of 0.2 are crossed every 200 us (0.95 keeps off the last one).
    assert ramp(sensor(), 0.95, 0, 950) == [(200, True), (400, True), (600, True), (800, True)]
    assert ramp(sensor(), -0.5, 1000, 2000) == [(1400, False), (1800, False)]
    assert ramp(sensor(), 0.19, 0, 1000) == []


def test_what_was_not_enough_for_an_event_is_remembered() -> None:
    camera = sensor()
    assert ramp(camera, 0.15, 0, 1000) == []
    assert ramp(camera, 0.25, 1000, 2000) == [(1500, True)]
    # Back below: the pixel compares with what it reported (0.2), so it takes a fall to 0.0.
    assert ramp(camera, 0.05, 2000, 3000) == []
    assert ramp(camera, -0.05, 3000, 4000) == [(3500, False)]


def test_light_that_stays_gives_nothing() -> None:
    camera = sensor()
    ramp(camera, 0.35, 0, 1000)
    assert all(ramp(camera, 0.35, now, now + 1000) == [] for now in range(1000, 20_000, 1000))


def test_a_pixel_in_its_dead_time_gives_no_second_event() -> None:
    camera = sensor(SensorSettings(0.2, 0, 500, 0, 0))
    assert ramp(camera, 0.95, 0, 950) == [(200, True), (800, True)]


def test_background_noise_is_poisson_with_hot_pixels() -> None:
    settings = SensorSettings(noise_hz=2.0, hot_share=0.01, hot_hz=200.0)
    camera = sensor(settings, (100, 100))
    parts = camera.noise(5_000_000, 15_000_000)
    number = sum(len(part.t) for part in parts)
    counts = np.zeros((100, 100), int)
    for part in parts:
        assert part.t.min() > 5_000_000
        assert part.t.max() <= 15_000_000
        np.add.at(counts, (part.y, part.x), 1)
    hot = counts > 500
    assert 0.004 < hot.mean() < 0.02
    expected = 10 * (2.0 * np.count_nonzero(~hot) + 200.0 * np.count_nonzero(hot))
    assert abs(number - expected) < 5 * np.sqrt(expected)
    assert 15 < counts[~hot].mean() < 25
    assert abs(np.mean(np.concatenate([part.p for part in parts])) - 0.5) < 0.02


def test_thresholds_differ_between_pixels_as_much_as_is_said() -> None:
    camera = sensor(SensorSettings(threshold=0.2, threshold_spread=0.02, noise_hz=0, hot_share=0), (80, 80))
    assert abs(float(camera._threshold.std()) - 0.02) < 0.002
    assert abs(float(camera._threshold.mean()) - 0.2) < 0.002


def test_the_same_seed_gives_the_same_bytes_whatever_the_workers(simulated: Path, tmp_path: Path) -> None:
    generate_events(tmp_path / "a", count={"train": 3}, size=(96, 128), seconds=4, seed=4, workers=2)
    generate_events(tmp_path / "b", count={"train": 1}, size=(96, 128), seconds=4, seed=5, workers=1)
    for name in ("train/train_day_0001_td.h5", "train/train_day_0001_bbox.npy", "train/train_day_0002_td.h5"):
        assert (tmp_path / "a" / name).read_bytes() == (simulated / name).read_bytes()
    assert (tmp_path / "a/train/train_night_0003_td.h5").exists()
    first = "train/train_day_0001_td.h5"
    assert (tmp_path / "b" / first).read_bytes() != (simulated / first).read_bytes()


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Events, np.ndarray]:
    out = tmp_path_factory.mktemp("long") / "set"
    generate_events(out, count={"train": 1}, size=(120, 160), seconds=15, seed=7, workers=1)
    recording = open_recording(out / "train/train_day_0001_td.h5")
    events = Events.join(list(recording.chunks()))
    assert recording.repairs.as_dict() == {}
    assert recording.size == (120, 160)
    return events, np.load(out / "train/train_day_0001_bbox.npy")


def rate_in(events: Events, box: np.void, start: int, end: int) -> float:
    """Events per pixel and second in a box, between two times."""
    part = events.between(start + 1, end)
    x1, y1 = int(np.ceil(box["x"])), int(np.ceil(box["y"]))
    x2, y2 = int(box["x"] + box["w"]), int(box["y"] + box["h"])
    inside = (part.x >= x1) & (part.x < x2) & (part.y >= y1) & (part.y < y2)
    return float(np.count_nonzero(inside)) / max((x2 - x1) * (y2 - y1), 1) / ((end - start) / 1e6)


def split_by_motion(boxes: np.ndarray) -> tuple[list, list]:
    """Boxes whose track has the very same box 50 ms before, and those whose box moved."""
    resting, moving = [], []
    for track in np.unique(boxes["track_id"]):
        rows = boxes[boxes["track_id"] == track]
        for before, after in pairwise(rows):
            if after["t"] - before["t"] == 50_000:
                same = all(before[name] == after[name] for name in "xywh")
                (resting if same else moving).append(after)
    return resting, moving


def test_objects_at_rest_keep_their_boxes_and_give_no_events(long: tuple[Events, np.ndarray]) -> None:
    events, boxes = long
    resting, moving = split_by_motion(boxes)
    assert len(resting) > 0.1 * len(boxes)
    whole = [box for box in resting if not overlapped(box, boxes)]
    still = np.median([rate_in(events, box, int(box["t"]) - 40_000, int(box["t"])) for box in whole])
    busy = np.median([rate_in(events, box, int(box["t"]) - 40_000, int(box["t"])) for box in moving])
    assert busy > 5
    assert still < 0.05 * busy


def overlapped(box: np.void, boxes: np.ndarray) -> bool:
    others = boxes[(np.abs(boxes["t"] - box["t"]) <= 50_000) & (boxes["track_id"] != box["track_id"])]
    apart = (
        (others["x"] > box["x"] + box["w"] + 3) | (box["x"] > others["x"] + others["w"] + 3)
        | (others["y"] > box["y"] + box["h"] + 3) | (box["y"] > others["y"] + others["h"] + 3)
    )  # fmt: skip
    return not apart.all()


def test_boxes_are_tight_around_the_events_of_moving_objects(long: tuple[Events, np.ndarray]) -> None:
    events, boxes = long
    ratios = []
    for box in split_by_motion(boxes)[1]:
        if overlapped(box, boxes) or not 8 < box["x"] < 150 - box["w"]:
            continue
        part = events.between(int(box["t"]) - 15_000, int(box["t"]))
        near = (
            (part.x > box["x"] - 6) & (part.x < box["x"] + box["w"] + 6)
            & (part.y > box["y"] - 6) & (part.y < box["y"] + box["h"] + 6)
        )  # fmt: skip
        if np.count_nonzero(near) > 40:
            y1, y2 = np.percentile(part.y[near], [2, 98])
            ratios.append((y2 + 1 - y1) / box["h"])
    assert len(ratios) > 10
    assert 0.8 < np.median(ratios) < 1.15


def test_classes_differ_in_size_and_speed() -> None:
    scene = Scene((120, 160), np.random.default_rng(1), contrast=1.0, density=5.0)
    sizes: dict[int, list] = {0: [], 1: [], 2: []}
    speeds: dict[int, list] = {0: [], 1: [], 2: []}
    for _ in range(20_000):
        scene.advance(0.01)
        for walker in scene.walkers:
            sizes[walker.label].append(walker.sprite.frames.shape[2])
            speeds[walker.label].append(walker.cruise)
    assert np.mean(sizes[0]) < np.mean(sizes[2]) < np.mean(sizes[1])
    assert np.mean(speeds[0]) < np.mean(speeds[2]) < np.mean(speeds[1])


def test_a_scene_begins_empty_and_every_object_enters_from_outside() -> None:
    scene = Scene((120, 160), np.random.default_rng(2), contrast=1.0, density=2.0)
    assert len(scene.boxes(0)) == 0
    tracks: dict[int, float] = {}
    for _ in range(4000):
        scene.advance(0.005)
        for walker in scene.walkers:
            tracks.setdefault(walker.track, walker.x)
    assert len(tracks) > 5
    assert all(x < 1 or x > 158 for x in tracks.values())


def test_files_have_the_layout_of_etram(simulated: Path) -> None:
    names = sorted(path.relative_to(simulated).as_posix() for path in simulated.rglob("*_*"))
    assert names == [
        "train/train_day_0001_bbox.npy", "train/train_day_0001_td.h5", "train/train_day_0002_bbox.npy",
        "train/train_day_0002_td.h5", "val/val_day_0001_bbox.npy", "val/val_day_0001_td.h5",
    ]  # fmt: skip
    with h5py.File(simulated / "val/val_day_0001_td.h5") as file:
        group = file["events"]
        kinds = {name: group[name].dtype.str for name in "txyp"}
        assert kinds == {"t": "<i8", "x": "<u2", "y": "<u2", "p": "<i2"}
        assert (int(group["height"][()]), int(group["width"][()])) == (96, 128)
        assert np.all(np.diff(group["t"][:]) >= 0)
        assert set(np.unique(group["p"][:]).tolist()) == {0, 1}


@pytest.mark.parametrize(
    "wrong",
    [{"count": {}}, {"count": {"train": -1}}, {"count": {"other": 1}}, {"size": (20, 160)}, {"seconds": 0.5}],
)
def test_unusable_wishes_are_refused(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(ValueError, match="must"):
        generate_events(tmp_path / "a", **{"count": {"train": 1}, "seconds": 2} | wrong)
    assert list(tmp_path.iterdir()) == []
