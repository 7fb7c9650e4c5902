"""A version of an event network with random weights, for timing and for tests of serving.

`python -m services.export.untrained_streams REPOSITORY NAME SIZE [--sensor SENSOR]`, for instance with tiny
--sensor gen4; SENSOR is gen1, gen4, etram or HEIGHTxWIDTH. It costs what a trained network of that size
costs, remembers, and finds nothing of meaning. No gate lets it into a repository: this writes to the folder
it is given, which is a benchmark's or a test's own.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import nn

from services.export.exporter import export_onnx
from services.export.pipeline import tensors
from services.export.raw_outputs import hide
from services.export.tasks.stream_graph import StreamGraph
from services.export.untrained import settle_statistics, threshold_between
from shared.families.events.config import EventsConfig
from shared.families.events.family import EVENTS
from shared.repository.manifest import MODEL_FILE, ManifestDraft, StateSpec, Thresholds
from shared.repository.repository import ModelRepository

# Blocks that add something: at the default of 1e-5 a random network hands on its first layer.
LAYER_SCALE = 0.1
# Answers that differ from place to place; as training begins them they are all but one value.
HEAD_DEVIATION = 0.1
BOX_DEVIATION = 0.02  # sides are an exponential: boxes of some strides, not of a thousand
# What a moving camera gives: few pixels per time bin, few events in each.
SHARE_OF_PIXELS = 0.02
LARGEST_COUNT = 3
# Statistics are those of streams that remember: they would be far off with the states of a first window.
SETTLED_STREAMS = 2
SETTLED_WINDOWS = 8
SETTLED_ON = 4  # the last of them, since a coarse map has few cells to take statistics of


def add_untrained_version(repository: ModelRepository, name: str, config: EventsConfig) -> int:
    """Publish a version of the network that `config` describes, live; return its number."""
    graph = untrained_graph(config)
    states: tuple[torch.Tensor, ...] = ()
    for histograms in _settling_windows(config):
        with torch.no_grad():
            _, scores, _, _, *following, _ = graph(histograms, *states)
        states = tuple(following)
    threshold = threshold_between(scores.numpy())

    def build(folder: Path) -> ManifestDraft:
        file = folder / MODEL_FILE
        hide(file, export_onnx(graph, file))
        inputs, outputs = tensors(file, graph)
        defaults = {**EVENTS.default_thresholds(config), "score_threshold": threshold}
        return ManifestDraft(
            family=EVENTS.name,
            task="stream_detection",
            precision="fp32",
            inputs=inputs,
            outputs=outputs,
            preprocessing=graph.preprocessing,
            states=[StateSpec(input=state.input, output=state.output) for state in graph.states],
            labels=EVENTS.class_names(config),
            thresholds=Thresholds.model_validate(defaults),
            source_run="untrained",
        )

    version = repository.add_version(name, build)
    repository.promote(name, version)
    return version


def untrained_graph(config: EventsConfig) -> StreamGraph:
    """Return the graph of a network with random weights, always the same for the same config."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = EVENTS.build(config)
        for key, parameter in network.named_parameters():
            if key.endswith("gamma"):
                nn.init.constant_(parameter, LAYER_SCALE)
            elif "reg_preds" in key:
                nn.init.normal_(parameter, std=BOX_DEVIATION)
            elif "obj_preds" in key or "cls_preds" in key:
                nn.init.normal_(parameter, std=HEAD_DEVIATION)
    _settle(network.eval(), config)
    return StreamGraph(EVENTS, config, network)


def _settle(network: Any, config: EventsConfig) -> None:
    states = network.zero_states(SETTLED_STREAMS)
    seen = []
    for histograms in _settling_windows(config):
        seen.append((histograms, states))
        with torch.no_grad():
            _, states = network.recur(histograms, states)
    last = seen[-SETTLED_ON:]
    together = [
        tuple(torch.cat([before[stage][part] for _, before in last]) for part in (0, 1))
        for stage in range(len(states))
    ]
    settle_statistics(network, torch.cat([histograms for histograms, _ in last]), together)


def _settling_windows(config: EventsConfig) -> Iterator[torch.Tensor]:
    """Yield windows [N, C, H, W] of N streams."""
    made = windows(config, SETTLED_STREAMS * SETTLED_WINDOWS)
    for _ in range(SETTLED_WINDOWS):
        yield torch.from_numpy(np.concatenate([next(made) for _ in range(SETTLED_STREAMS)]))


def windows(config: EventsConfig, count: int) -> Iterator[NDArray[Any]]:
    """Yield `count` windows of random events, uint8 [1, C, H, W], always the same."""
    shape = (1, config.channels, *config.sensor_size)
    for number in range(count):
        rng = np.random.default_rng(number)
        counts = rng.integers(1, LARGEST_COUNT + 1, shape, dtype=np.uint8)
        yield np.where(rng.random(shape, dtype=np.float32) < SHARE_OF_PIXELS, counts, np.uint8(0))


def main(arguments: list[str] | None = None) -> None:
    """Make the version that the command line names; says what it wants where it cannot read it."""
    parser = argparse.ArgumentParser("python -m services.export.untrained_streams", description=__doc__)
    parser.add_argument("repository", type=Path)
    parser.add_argument("name")
    parser.add_argument("size", choices=("tiny", "small", "base"))
    parser.add_argument("--sensor", default="gen4", help="gen1, gen4, etram or HEIGHTxWIDTH")
    given = parser.parse_args(arguments)
    try:
        config = EventsConfig.model_validate({"size": given.size, **_sensor(given.sensor)})
    except (ValidationError, ValueError) as error:
        parser.error(f"--sensor {given.sensor}: {error}")
    version = add_untrained_version(ModelRepository(given.repository), given.name, config)
    print(f"{given.name} version {version}")


def _sensor(text: str) -> dict[str, Any]:
    height, by, width = text.partition("x")
    if not by:
        return {"sensor": text}
    return {"sensor": "custom", "height": int(height), "width": int(width), "class_names": ["0", "1", "2"]}


if __name__ == "__main__":
    main()
