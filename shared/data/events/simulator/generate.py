"""The `events` set: simulated recordings with boxes, in eTraM's layout with its three classes.

A recording begins with an empty street, so every object has once moved into the frame. At rest it gives no
events; its boxes go on, with the same track id and the same coordinates.
"""

import json
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from shared.core.files import atomic_directory
from shared.data.events.labels import BOX, without_padding
from shared.data.events.layout import SPLITS
from shared.data.events.simulator.scene import Scene
from shared.data.events.simulator.sensor import EventSensor, PixelEvents, SensorSettings
from shared.data.events.simulator.sprites import CLASSES
from shared.data.events.workers import interrupts_ignored, worker_pool

DESCRIPTION_FILE = "set.json"
DESCRIPTION = "simulated events set"
RENDER_HZ = 500
LABEL_HZ = 20
NIGHT_SHARE = 3  # every third recording is taken at night
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Job:
    """One recording to simulate: split, number within it, sensor (height, width), seconds and seed."""

    split: str
    number: int
    size: tuple[int, int]
    seconds: float
    seed: int

    @property
    def night(self) -> bool:
        return self.number % NIGHT_SHARE == NIGHT_SHARE - 1

    @property
    def name(self) -> str:
        """As eTraM names recordings."""
        return f"{self.split}_{'night' if self.night else 'day'}_{self.number + 1:04d}"


def generate_events(
    out: Path,
    *,
    count: dict[str, int],
    size: tuple[int, int] = (120, 160),
    seconds: float = 20.0,
    seed: int = 0,
    workers: int = 1,
    on_recording: Callable[[], None] | None = None,
) -> None:
    """Write `count` recordings per split: out/<split>/<split>_day_0001_td.h5 with ..._bbox.npy.

    size: (height, width) of the sensor, 64 at least; seconds: length of each, 1 at least. The same arguments
    give the same bytes, whatever the number of workers, and a larger count begins with the recordings of a
    smaller one. Appears in one step: raises FileExistsError if `out` exists, ValueError for unusable counts,
    sizes or lengths.
    """
    if set(count) - set(SPLITS) or min(count.values(), default=0) < 0 or sum(count.values()) == 0:
        raise ValueError(f"count must give recordings for some of {', '.join(SPLITS)}, got {count}")
    if min(size) < 64 or max(size) > 2048:
        raise ValueError(f"size must be from 64 to 2048 pixels a side, got {size}")
    if not 1 <= seconds <= 3600:
        raise ValueError(f"recordings must last from 1 to 3600 seconds, got {seconds}")
    jobs = [
        Job(split, number, size, seconds, seed) for split in SPLITS for number in range(count.get(split, 0))
    ]
    with atomic_directory(out) as folder:
        for split in sorted({job.split for job in jobs}):
            (folder / split).mkdir()
        with worker_pool(min(workers, len(jobs))) as pool:
            with interrupts_ignored():
                recordings = [pool.submit(write_recording, job, folder / job.split) for job in jobs]
            for recording in as_completed(recordings):
                recording.result()
                if on_recording:
                    on_recording()
        document = {"description": DESCRIPTION, "classes": list(CLASSES), "seed": seed, "size": list(size),
                    "seconds": seconds}  # fmt: skip
        (folder / DESCRIPTION_FILE).write_text(json.dumps(document, indent=2) + "\n")


def write_recording(job: Job, folder: Path) -> None:
    """Simulate one recording into <name>_td.h5 (RVT's layout) and <name>_bbox.npy."""
    rng = np.random.default_rng([job.seed, SPLITS.index(job.split), job.number])
    scene = Scene(job.size, rng, contrast=0.6 if job.night else 1.0, density=0.7)
    settings = SensorSettings()
    if job.night:
        settings = replace(settings, noise_hz=0.5, threshold=0.25)
    sensor = EventSensor(settings, scene.log_light(), rng)
    boxes: list[NDArray[np.void]] = []
    with h5py.File(folder / f"{job.name}_td.h5", "w") as file:
        columns = _columns(file, job.size)
        end_us = round(job.seconds * 1e6)
        second = 1_000_000
        for start in range(0, end_us, second):
            _append(columns, _simulate(scene, sensor, start, min(start + second, end_us), boxes))
    np.save(
        folder / f"{job.name}_bbox.npy", without_padding(np.concatenate(boxes) if boxes else np.empty(0, BOX))
    )


def _simulate(
    scene: Scene, sensor: EventSensor, start_us: int, end_us: int, boxes: list[NDArray[np.void]]
) -> list[PixelEvents]:
    found: list[PixelEvents] = []
    step_us, label_us = 1_000_000 // RENDER_HZ, 1_000_000 // LABEL_HZ
    for now in range(start_us, end_us, step_us):
        after = min(now + step_us, end_us)
        for region in scene.advance((after - now) / 1e6):
            found += sensor.step(now, after, region, scene.render(region))
        if after % label_us == 0:
            boxes.append(scene.boxes(after))
    return found + sensor.noise(start_us, end_us)


def _columns(file: h5py.File, size: tuple[int, int]) -> dict[str, Any]:
    group = file.create_group("events")
    for name, side in zip(("height", "width"), size, strict=True):
        group.create_dataset(name, data=np.int64(side), track_times=False)
    kinds = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "<i2"}
    return {
        name: group.create_dataset(
            name, (0,), kind, maxshape=(None,), chunks=(_CHUNK,), track_times=False,
            compression=hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.SHUFFLE),
        )
        for name, kind in kinds.items()
    }  # fmt: skip


def _append(columns: dict[str, Any], found: list[PixelEvents]) -> None:
    if not found:
        return
    t = np.concatenate([part.t for part in found])
    order = np.argsort(t, kind="stable")
    length = len(columns["t"])
    for name, column in columns.items():
        column.resize((length + len(t),))
        column[length:] = np.concatenate([getattr(part, name) for part in found])[order]
