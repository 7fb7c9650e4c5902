"""Tiny labelled images and runs over them: 64 px, a light network, two epochs."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from shared.config import RunConfig, compose_run
from tests.data.events.clips.preprocessed import Drawn, write_set

SIDE_PX = 64


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory) -> Path:
    """Grey images with one or two red people-shaped rectangles; COCO JSON, splits train, val and test."""
    root = tmp_path_factory.mktemp("toy")
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir()
    for split, count in (("train", 9), ("val", 4), ("test", 3)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            image = rng.integers(70, 110, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
            images.append(
                {"id": number + 1, "file_name": f"{number}.png", "width": SIDE_PX, "height": SIDE_PX}
            )
            for _ in range(1 + number % 2):
                width, height = 12, 24
                x, y = (int(v) for v in rng.integers(0, (SIDE_PX - width, SIDE_PX - height)))
                image[y : y + height, x : x + width] = (40, 60, 200)
                box = {"image_id": number + 1, "category_id": 1, "bbox": [x, y, width, height], "iscrowd": 0}
                annotations.append({"id": len(annotations) + 1, "area": width * height, **box})
            cv2.imwrite(str(root / split / f"{number}.png"), image)
        categories = [{"id": 1, "name": "person"}]
        labels = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"{split}.json").write_text(json.dumps(labels))
    return root


@pytest.fixture
def toy_overrides(toy_data) -> list[str]:
    """Overrides for a run of two epochs of two steps on `toy_data`."""
    return [
        f"data.path='{toy_data}'",
        f"model.image_size={SIDE_PX}",
        "model.grid_size=4",
        "model.depth=light",
        "trainer.batch_size=4",
        "trainer.max_epochs=2",
        "trainer.num_threads=1",
        "schedule.warmup_epochs=1",
        "tracking=none",
    ]


@pytest.fixture(scope="session")
def toy_surfaces(tmp_path_factory) -> Path:
    """Grey strips of 64 x 32 px with a bright spot, a dark stripe, both or none; splits train, val, test.

    Of six pictures in a row one holds both, two only the spot, one only the stripe.
    """
    root = tmp_path_factory.mktemp("surfaces")
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 12), ("test", 12)):
        (root / "images" / split).mkdir(parents=True)
        (root / "annotations" / split).mkdir(parents=True)
        for number in range(count):
            image = rng.integers(90, 120, (32, 64), dtype=np.uint8)
            labels = []
            if number % 2:
                labels.append("spot")
                x, y = (int(v) for v in rng.integers(4, (50, 22)))
                image[y : y + 8, x : x + 8] = 250
            if number % 3 == 0:
                labels.append("stripe")
                y = int(rng.integers(2, 26))
                image[y : y + 4] = 10
            cv2.imwrite(str(root / "images" / split / f"{number:02}.png"), image)
            (root / "annotations" / split / f"{number:02}.json").write_text(json.dumps({"labels": labels}))
    (root / "classes.txt").write_text("spot\nstripe\n")
    return root


@pytest.fixture
def surface_overrides(toy_surfaces) -> list[str]:
    """Overrides for a run of two epochs of four steps on `toy_surfaces`."""
    return [
        f"data.path='{toy_surfaces}'",
        "model.class_names=[spot,stripe]",
        "model.architecture=convnext_zepto_cbam",
        "model.height=32",
        "model.width=64",
        "data.window=null",
        "data.repeat_rare=0.0",
        "trainer.batch_size=6",
        "trainer.max_epochs=2",
        "trainer.num_threads=1",
        "tracking=none",
    ]


@pytest.fixture
def surface_run(surface_overrides):
    """A function from further overrides to a RunConfig of the defects family."""

    def make(*overrides: str) -> RunConfig:
        return compose_run("defects", "light", [*surface_overrides, *overrides])

    return make


@pytest.fixture
def toy_run(toy_overrides):
    """A function from further overrides to a RunConfig."""

    def make(*overrides: str) -> RunConfig:
        return compose_run("person", "recommended", [*toy_overrides, *overrides])

    return make


@pytest.fixture(scope="session")
def toy_streams(tmp_path_factory) -> Path:
    """Recordings of 16 or 12 windows of 64 x 64 px: a bright block that moves, then a second one at rest.

    Splits train (2 recordings), val and test (1). Every window but the first four has the moving block's box,
    a pedestrian's, the last four also that of the other, a vehicle's.
    """

    def recording(windows: int, seed: int) -> Drawn:
        rng = np.random.default_rng(seed)
        frames, boxes = {}, {}
        x, y = (int(v) for v in rng.integers(4, 16, 2))
        for window in range(windows):
            frame = (rng.random((2, SIDE_PX, SIDE_PX)) < 0.01).astype(np.uint8)
            frame[1, y : y + 24, x + window : x + window + 12] = 5
            boxes[window] = [(x + window, y, 12, 24, 0, 1)]
            if window >= windows - 4:
                frame[0, 40:56, 36:60] = 4
                boxes[window].append((36, 40, 24, 16, 1, 2))
            frames[window] = frame
        return Drawn(windows, {window: boxes[window] for window in range(4, windows)}, frames)

    return write_set(
        tmp_path_factory.mktemp("toy") / "streams",
        {
            "train": {"a": recording(16, 0), "b": recording(16, 1)},
            "val": {"c": recording(12, 2)},
            "test": {"d": recording(12, 3)},
        },
        sensor=(SIDE_PX, SIDE_PX),
    )


@pytest.fixture(scope="session")
def stream_run(toy_streams):
    """A function from further overrides to a RunConfig of the events family, two epochs of four steps."""

    def make(*overrides: str) -> RunConfig:
        own = [
            f"data.path='{toy_streams}'",
            "model.class_names=[pedestrian,vehicle]",
            f"model.height={SIDE_PX}",
            f"model.width={SIDE_PX}",
            "model.bins=1",
            "data.sampling=mixed",
            "data.clip_length=4",
            "trainer.batch_size=4",
            "trainer.max_epochs=2",
            "trainer.eval_every_epochs=1",
            "trainer.num_threads=1",
            "tracking=none",
        ]
        return compose_run("events", "light", [*own, *overrides])

    return make


class ScriptedControl:
    """A control that asks for a stop at its n-th question, and keeps every event."""

    def __init__(self, stop_at: int | None = None, reason: str = "cancel") -> None:
        self.stop_at, self.reason = stop_at, reason
        self.asked = 0
        self.events: list[tuple[str, dict]] = []

    def stop_requested(self):
        self.asked += 1
        return self.reason if self.asked == self.stop_at else None

    def ensure_owned(self) -> None:
        pass

    def report(self, type: str, **data) -> None:  # noqa: A002
        self.events.append((type, data))

    def of(self, kind: str) -> list[dict]:
        return [data for event, data in self.events if event == kind]


@pytest.fixture
def scripted_control():
    return ScriptedControl
