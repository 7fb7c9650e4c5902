"""What serving costs on top of a bare loop, measured side by side in one run."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from services.detector.cli.bench.detector_process import HOST, DetectorProcess, start_detector
from services.detector.cli.bench.machine import OtherLoad
from services.detector.cli.bench.peer import Peer, cpu_seconds, start_peer

CONCURRENCIES = (1, 8, 16, 32)
CPU_CONCURRENCY = 16
WARM_UP_IMAGES = 32
LATENCY_TURN = 5
ANSWER_DEADLINE_S = 300.0


class ServingFailed(RuntimeError):
    """The detector answered something else than 200 while it was measured."""


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """What is measured, and how much of it: `version` is the folder of a repository version.

    Each round sends `images` pictures at every concurrency above 1 and through the bare loop with `threads`
    threads, and `latency_images` one at a time. Rounds stop early when `max_s` has passed.
    """

    repository: Path
    model: str
    version: Path
    pictures: Path
    rounds: int = 5
    images: int = 200
    latency_images: int = 60
    threads: int = 2
    intra_op: int = 1
    starts: int = 3
    max_s: float = 600.0

    @property
    def target(self) -> str:
        return f"/v1/models/{self.model}/versions/{self.version.name}/detect"

    @property
    def detector_settings(self) -> dict[str, str]:
        return {"SIGHTLINE_DETECTOR_INTRA_OP_THREADS": str(self.intra_op)}


@dataclass(slots=True)
class Samples:
    """Everything that was measured, one entry per round, latencies in milliseconds."""

    bare_cpu_ms: list[float] = field(default_factory=list)
    server_cpu_ms: list[float] = field(default_factory=list)
    bare_images_per_s: list[float] = field(default_factory=list)
    bare_latencies_ms: list[list[float]] = field(default_factory=list)
    server_latencies_ms: dict[int, list[list[float]]] = field(default_factory=dict)
    server_images_per_s: dict[int, list[float]] = field(default_factory=dict)
    ready_s: list[float] = field(default_factory=list)
    server_rss_mib: float = 0.0
    other_cpu_share: float = 0.0  # of the whole machine, while the rounds ran


def measure_serving(plan: ServingPlan, on_step: Callable[[str], None]) -> Samples:
    """Run the plan; `on_step` is told of each step.

    Raises ServingFailed, PeerFailed or DetectorNotReady.
    """
    samples = Samples()
    give_up_at = time.monotonic() + plan.max_s
    for start in range(plan.starts - 1):
        on_step(f"start {start + 1}")
        with start_detector(plan.repository, plan.detector_settings) as detector:
            samples.ready_s.append(detector.ready_s)
    with _processes(plan) as (detector, load, bare):
        samples.ready_s.append(detector.ready_s)
        on_step("warm-up")
        _bare(bare, plan.threads, WARM_UP_IMAGES)
        _load(load, CPU_CONCURRENCY, WARM_UP_IMAGES)
        others = OtherLoad(detector.pid, load.pid, bare.pid)
        for number in range(plan.rounds):
            if number and time.monotonic() > give_up_at:
                break
            on_step(f"round {number + 1}")
            _measure_round(plan, samples, detector, load, bare, server_first=number % 2 == 1)
        samples.other_cpu_share = others.share()
        samples.server_rss_mib = psutil.Process(detector.pid).memory_info().rss / 2**20
    return samples


@contextlib.contextmanager
def _processes(plan: ServingPlan) -> Iterator[tuple[DetectorProcess, Peer, Peer]]:
    package = "services.detector.cli.bench"
    with (
        start_detector(plan.repository, plan.detector_settings) as detector,
        start_peer(f"{package}.load", HOST, str(detector.port), plan.target, str(plan.pictures)) as load,
        start_peer(f"{package}.bare_loop", str(plan.pictures), str(plan.intra_op), str(plan.version)) as bare,
    ):
        yield detector, load, bare


def _measure_round(
    plan: ServingPlan,
    samples: Samples,
    detector: DetectorProcess,
    load: Peer,
    bare: Peer,
    *,
    server_first: bool,
) -> None:
    """Measure each pair back to back; the order alternates, so that a drift favours neither side."""

    def cpu_of_bare() -> None:
        before = cpu_seconds(bare.pid)
        answer = _bare(bare, plan.threads, plan.images)
        samples.bare_cpu_ms.append((cpu_seconds(bare.pid) - before) / plan.images * 1000)
        samples.bare_images_per_s.append(plan.images / answer["wall_s"])

    def cpu_of_server() -> None:
        before = cpu_seconds(detector.pid)
        latencies_at(CPU_CONCURRENCY, plan.images)
        samples.server_cpu_ms.append((cpu_seconds(detector.pid) - before) / plan.images * 1000)

    def latencies_at(concurrency: int, images: int) -> None:
        answer = _load(load, concurrency, images)
        samples.server_latencies_ms.setdefault(concurrency, []).append(answer["latencies_ms"])
        samples.server_images_per_s.setdefault(concurrency, []).append(images / answer["wall_s"])

    for measure in (cpu_of_server, cpu_of_bare) if server_first else (cpu_of_bare, cpu_of_server):
        measure()
    _measure_lone_latencies(plan, samples, load, bare)
    for concurrency in CONCURRENCIES:
        if concurrency not in (1, CPU_CONCURRENCY):
            latencies_at(concurrency, plan.images)


def _measure_lone_latencies(plan: ServingPlan, samples: Samples, load: Peer, bare: Peer) -> None:
    """Send pictures one at a time, in short turns: whatever else the machine does then meets both sides."""
    alone: list[float] = []
    served: list[float] = []
    wall_s = 0.0
    for first in range(0, plan.latency_images, LATENCY_TURN):
        count = min(LATENCY_TURN, plan.latency_images - first)
        alone += _bare(bare, 1, count)["latencies_ms"]
        answer = _load(load, 1, count)
        served += answer["latencies_ms"]
        wall_s += answer["wall_s"]
    samples.bare_latencies_ms.append(alone)
    samples.server_latencies_ms.setdefault(1, []).append(served)
    samples.server_images_per_s.setdefault(1, []).append(plan.latency_images / wall_s)


def _bare(bare: Peer, threads: int, images: int) -> dict[str, Any]:
    return bare.ask(ANSWER_DEADLINE_S, model=0, threads=threads, count=images)


def _load(load: Peer, concurrency: int, images: int) -> dict[str, Any]:
    answer = load.ask(ANSWER_DEADLINE_S, concurrency=concurrency, count=images)
    if set(answer["statuses"]) != {"200"}:
        raise ServingFailed(f"the detector answered {answer['statuses']} at concurrency {concurrency}")
    return answer


def summarise(samples: Samples) -> dict[str, Any]:
    """Return the figures of the report: medians over the rounds, with the least and the most beside them."""
    ratios = [server / bare for server, bare in zip(samples.server_cpu_ms, samples.bare_cpu_ms, strict=True)]
    added_ms = [
        statistics.median(server) - statistics.median(bare)
        for server, bare in zip(samples.server_latencies_ms[1], samples.bare_latencies_ms, strict=True)
    ]
    return {
        "rounds": len(ratios),
        "cpu_ms_per_image": {"bare": _spread(samples.bare_cpu_ms), "server": _spread(samples.server_cpu_ms)},
        "cpu_ratio": _spread(ratios),
        "latency_ms": {
            "bare": _spread([statistics.median(one) for one in samples.bare_latencies_ms]),
            "server": _spread([statistics.median(one) for one in samples.server_latencies_ms[1]]),
        },
        "added_latency_ms": _spread(added_ms),
        "ready_s": _spread(samples.ready_s),
        "other_cpu_share": round(samples.other_cpu_share, 3),
        "server_rss_mib": round(samples.server_rss_mib, 1),
        "bare_images_per_s": _spread(samples.bare_images_per_s),
        "concurrency": {
            str(concurrency): {
                "images_per_s": _spread(samples.server_images_per_s[concurrency]),
                **_percentiles([value for one in rounds for value in one]),
            }
            for concurrency, rounds in sorted(samples.server_latencies_ms.items())
        },
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "min": round(min(values), 3),
        "max": round(max(values), 3),
    }


def _percentiles(latencies_ms: list[float]) -> dict[str, float]:
    cuts = statistics.quantiles(latencies_ms, n=100, method="inclusive")
    return {"p50_ms": round(cuts[49], 2), "p95_ms": round(cuts[94], 2), "p99_ms": round(cuts[98], 2)}
