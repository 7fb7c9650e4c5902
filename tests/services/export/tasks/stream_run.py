"""A run of the events family and its recordings, without training: the labels are what the network finds.

So AP is far from 0, and an exported file that finds something else loses some of it.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from services.export.runs import Run, read_run
from shared.config import dump_run_config, validate_run
from shared.families.events.config import EventsConfig
from shared.families.events.family import EVENTS
from shared.vision.nms import nms
from tests.data.events.clips.preprocessed import Box, Drawn, frame_of, settings, write_set

HEIGHT, WIDTH = 40, 60  # of the frames; the network pads them
BINS = 2
NAMES = ["pedestrian", "vehicle"]
WINDOWS = {"a": 12, "b": 9}
LABELLED = 3  # every third window


def stream_config() -> EventsConfig:
    return EventsConfig(sensor="custom", height=HEIGHT, width=WIDTH, bins=BINS, class_names=NAMES)


def stream_network() -> torch.nn.Module:
    """Random weights, with attention and memory that count, and scores that differ from place to place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EVENTS.build(stream_config())
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):  # at its first value of 1e-5 attention would hardly be seen
                torch.nn.init.constant_(parameter, 0.5)
            elif "obj_preds" in name or "cls_preds" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    return network.eval()


def found_boxes(network: torch.nn.Module, name: str, count: int) -> dict[int, list[Box]]:
    """Return the ten best boxes that overlap no better one, cut to the frame, in every third window."""
    boxes: dict[int, list[Box]] = {}
    states = None
    for window in range(count):
        with torch.inference_mode():
            decoded, states = network.step(torch.from_numpy(frames_of(name)[window])[None], states)
            best, scores, labels, _ = (
                answer[0].numpy() for answer in EVENTS.decode(stream_config(), decoded)
            )
        if window % LABELLED:
            continue
        kept = nms(best, scores, labels, stream_config().iou_threshold, 10)
        low, high = np.split(best[kept].clip(0, [WIDTH - 1, HEIGHT - 1] * 2), 2, axis=1)
        boxes[window] = [
            (*low[row].tolist(), *(high - low)[row].tolist(), int(labels[kept][row]), row)
            for row in np.flatnonzero((high - low).min(axis=1) >= 1).tolist()
        ]
    return boxes


def frames_of(name: str) -> dict[int, np.ndarray]:
    offset = 100 * (1 + sorted(WINDOWS).index(name))
    return {window: frame_of(offset + window, (2 * BINS, HEIGHT, WIDTH)) for window in range(WINDOWS[name])}


def write_recordings(folder: Path) -> Path:
    """Write the set of the run; training recordings are the held-out ones' frames without meaning."""
    network = stream_network()
    val = {
        name: Drawn(count, found_boxes(network, name, count), frames_of(name))
        for name, count in WINDOWS.items()
    }
    train = {"t": Drawn(3, {1: [(8, 10, 12, 20, 0, 1)]})}
    made = settings(bins=BINS, classes=tuple(NAMES))
    return write_set(folder, {"train": train, "val": val}, made, (HEIGHT, WIDTH))


def write_run(folder: Path, *, data: str, **model: object) -> Run:
    """Write the run's folder; `model`: options that differ from its network's."""
    folder.mkdir()
    tensors = {name: tensor.contiguous() for name, tensor in stream_network().state_dict().items()}
    save_file(tensors, folder / "weights.safetensors")
    described = {
        "family": "events",
        "recipe": "recommended",
        "model": stream_config().model_dump(mode="json") | model,
        "data": {"path": data},
    }
    (folder / "config.yaml").write_text(dump_run_config(validate_run(described)))
    (folder / "labels.json").write_text(json.dumps(NAMES))
    return read_run(folder)
