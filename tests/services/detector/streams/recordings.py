"""Events for the tests of streams, and what a model makes of them without a server."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import onnxruntime as ort

from services.detector.dataplane.streams.formats import EVENT_RECORD
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram
from tests.fixtures.tiny_stream_model import STATES, TinyStreamModel, tiny_stream_model


def random_events(
    seed: int, count: int = 400, until_us: int = 600_000, size: tuple[int, int] = (32, 48)
) -> Events:
    """Return `count` events in order of time, several at the same time and some at the edges of windows."""
    random = np.random.default_rng(seed)
    t = np.concatenate([random.integers(0, until_us, count - 8), np.arange(8) * 50_000])
    height, width = size
    return Events(
        np.sort(t),
        random.integers(0, width, count).astype(np.uint16),
        random.integers(0, height, count).astype(np.uint16),
        random.integers(0, 2, count).astype(np.uint8),
    )


def events_at(*records: tuple[int, int, int, int]) -> Events:
    """Return events from (t, x, y, p)."""
    columns = np.array(records, np.int64).reshape(-1, 4).T
    return Events(
        columns[0], columns[1].astype(np.uint16), columns[2].astype(np.uint16), columns[3].astype(np.uint8)
    )


def packed(events: Events) -> bytes:
    """Return events as the bytes of a chunk."""
    records = np.empty(len(events), EVENT_RECORD)
    for name in ("t", "x", "y", "p"):
        records[name] = getattr(events, name)
    return records.tobytes()


def cuts(events: Events, places: Iterable[int]) -> list[Events]:
    """Return events in parts, cut before each of `places`."""
    edges = [0, *sorted(places), len(events)]
    return [events[start:end] for start, end in pairwise(edges)]


Offline = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # boxes, scores and labels of each window


def offline(
    events: Events, count: int, start_us: int = 0, model: TinyStreamModel = TinyStreamModel()
) -> Offline:
    """Return what the graph says of the first `count` windows, run by itself, one window after the other.

    No threshold but the model's, and no suppression: its two boxes never overlap.
    """
    session = ort.InferenceSession(tiny_stream_model(model))
    names = [output.name for output in session.get_outputs()]
    states = {f"state_{state}": np.zeros((1, *model.state_shape(state)), np.float32) for state in STATES}
    found: Offline = []
    for index in range(count):
        start = start_us + index * model.window_ms * 1000
        window = events.between(start, start + model.window_ms * 1000)
        histogram = stacked_histogram(
            window, (model.sensor_height, model.sensor_width), bins=model.bins, half=model.halved
        )
        outputs = dict(zip(names, session.run(None, {"histograms": histogram[None], **states}), strict=True))
        states = {f"state_{state}": outputs[f"next_{state}"] for state in STATES}
        kept = outputs["scores"][0] >= model.score_threshold
        scale = 2 if model.halved else 1
        found.append(
            (outputs["boxes"][0][kept] * scale, outputs["scores"][0][kept], outputs["labels"][0][kept])
        )
    return found


def assert_same(boxes_scores_labels: Sequence[tuple], expected: Offline) -> None:
    """Compare windows in order."""
    assert len(boxes_scores_labels) == len(expected)
    for got, wanted in zip(boxes_scores_labels, expected, strict=True):
        np.testing.assert_allclose(got[0], wanted[0], atol=1e-4)
        np.testing.assert_allclose(got[1], wanted[1], atol=1e-6)
        np.testing.assert_array_equal(got[2], wanted[2])
