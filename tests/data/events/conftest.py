from pathlib import Path

import numpy as np
import pytest

from shared.data.events.recording import open_recording
from shared.data.events.simulator.generate import generate_events
from shared.vision.events import Events


@pytest.fixture
def read_all():
    """Read a recording to its end: rows (t, x, y, p), and the recording with its repairs."""

    def read(path: Path, size: tuple[int, int] | None = None):
        recording = open_recording(path, size)
        events = Events.join(list(recording.chunks()))
        return np.stack([events.t, events.x, events.y, events.p], axis=1).astype(np.int64).tolist(), recording

    return read


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small simulated set that tests only read."""
    out = tmp_path_factory.mktemp("simulated") / "set"
    generate_events(out, count={"train": 2, "val": 1}, size=(96, 128), seconds=4, seed=4, workers=1)
    return out
