"""ONNX Runtime against PyTorch over the windows of a stream: latency, and how far answers drift."""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from services.export.differences import difference, worst
from services.export.exporter import export_onnx
from services.export.runners import Outputs, onnx_runner, open_session, torch_runner
from services.export.streams import Stream
from services.export.tasks.stream_graph import StreamGraph
from services.export.untrained_streams import untrained_graph, windows
from shared.families.events.config import EventsConfig

_WARM_UP = 2
_DISTINCT = 20  # windows; a longer stream sees them again

# Called with what is done and how much of it there is to do.
OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Agreement:
    """Largest differences of one window, or of all: decoded boxes (pixels), probabilities, states h and c."""

    boxes_px: float = 0.0
    probabilities: float = 0.0
    states: float = 0.0

    def worst(self, other: "Agreement") -> "Agreement":
        return Agreement(
            worst(self.boxes_px, other.boxes_px),
            worst(self.probabilities, other.probabilities),
            worst(self.states, other.states),
        )


@dataclass
class RuntimeComparison:
    """One network in both runtimes.

    Milliseconds per window are medians of each round; `ratio` is the median over rounds of ONNX Runtime ÷
    PyTorch, `cpu_ratio` the same for processor time, which other programs on the machine hardly disturb.
    agreement: after 1, 10, … windows of carried state, and the largest of any.
    """

    size: str
    input_size: tuple[int, int]
    padded_size: tuple[int, int]
    threads: int
    windows: int
    torch_ms: list[float] = field(default_factory=list)
    onnx_ms: list[float] = field(default_factory=list)
    torch_cpu_ms: list[float] = field(default_factory=list)
    onnx_cpu_ms: list[float] = field(default_factory=list)
    ratio: float = 0.0
    cpu_ratio: float = 0.0
    agreement: dict[str, Agreement] = field(default_factory=dict)


def compare_runtimes(
    config: EventsConfig, *, threads: int, rounds: int, round_windows: int, on_step: OnStep
) -> RuntimeComparison:
    """Run one stream of `rounds` · `round_windows` windows through both, turn about, round by round.

    Each carries states of its own from zeros on. The file is the one that is exported, with its decoded cells
    as one more output, which PyTorch gives as well. `threads` of each; ONNX Runtime's do not spin.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
            on_step(f"exporting {config.size}", 0, rounds)
            graph, file = untrained_graph(config), Path(folder, "model.onnx")
            raw_names = export_onnx(graph, file)
            return _compare(config, graph, file, raw_names, threads, rounds, round_windows, on_step)
    finally:
        torch.set_num_threads(before)


def _compare(
    config: EventsConfig,
    graph: StreamGraph,
    file: Path,
    raw_names: list[str],
    threads: int,
    rounds: int,
    round_windows: int,
    on_step: OnStep,
) -> RuntimeComparison:
    result = RuntimeComparison(
        config.size, config.sensor_size, config.padded_size, threads, rounds * round_windows
    )
    made = list(windows(config, min(_DISTINCT, rounds * round_windows)))
    runners = {"torch": torch_runner(graph, raw_names), "onnx": onnx_runner(open_session(file))}
    for run in runners.values():
        warm = Stream(run, graph.states, zeros=1)
        for number in range(_WARM_UP):
            warm.step(made[number % len(made)])
    streams = {name: Stream(run, graph.states, zeros=1) for name, run in runners.items()}
    largest, passed = Agreement(), 0
    for number in range(rounds):
        on_step(f"running {config.size}", number, rounds)
        chosen = [made[(passed + index) % len(made)] for index in range(round_windows)]
        answers: dict[str, list[Outputs]] = {}
        for name in sorted(streams, reverse=bool(number % 2)):  # a machine that slows down slows both
            answers[name], wall_ms, cpu_ms = _timed(streams[name], chosen)
            getattr(result, f"{name}_ms").append(wall_ms)
            getattr(result, f"{name}_cpu_ms").append(cpu_ms)
        for expected, found in zip(answers["torch"], answers["onnx"], strict=True):
            passed += 1
            now = _agreement(graph, raw_names[0], expected, found)
            largest = largest.worst(now)
            if passed in (1, 10, 100, result.windows):
                result.agreement[f"window {passed}"] = now
    on_step(f"running {config.size}", rounds, rounds)
    result.agreement["largest"] = largest
    result.ratio = _median_ratio(result.onnx_ms, result.torch_ms)
    result.cpu_ratio = _median_ratio(result.onnx_cpu_ms, result.torch_cpu_ms)
    return result


def _timed(stream: Stream, chosen: list[NDArray[Any]]) -> tuple[list[Outputs], float, float]:
    """Return the answers, and the median of milliseconds and of processor milliseconds per window."""
    answers, wall_ms, cpu_ms = [], [], []
    for histograms in chosen:
        started, cpu_started = time.perf_counter(), time.process_time()
        answers.append(stream.step(histograms))
        wall_ms.append(1000 * (time.perf_counter() - started))
        cpu_ms.append(1000 * (time.process_time() - cpu_started))
    return answers, statistics.median(wall_ms), statistics.median(cpu_ms)


def _agreement(graph: StreamGraph, cells: str, expected: Outputs, found: Outputs) -> Agreement:
    one, other = expected[cells], found[cells]
    states = 0.0
    for state in graph.states:
        states = worst(states, difference(expected[state.output], found[state.output]))
    return Agreement(
        difference(one[..., :4], other[..., :4]), difference(one[..., 4:], other[..., 4:]), states
    )


def _median_ratio(over: list[float], under: list[float]) -> float:
    return statistics.median(one / other for one, other in zip(over, under, strict=True))
