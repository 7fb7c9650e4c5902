"""Which threads suit a model on a machine: candidates measured in turns, the best written down."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from services.detector.cli.bench.measuring import MeasuringProcess, start_measuring
from services.detector.cli.bench.sides import Load, Side, detector_side
from shared.repository.repository import ModelRepository

PREFIX = "SIGHTLINE_DETECTOR_"
Goal = Literal["balanced", "throughput", "latency"]
WARM_UP_S = 0.5
NEAR_BEST = 0.95  # of the best throughput: what `balanced` will give up at most for a lone request
CLEAR_GAIN = 1.03  # a candidate has to be that much better than one before it; less is noise


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings of the detector by name without prefix, in lower case; none at all are the defaults."""

    settings: tuple[tuple[str, int], ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        return {f"{PREFIX}{name.upper()}": str(value) for name, value in self.settings}

    def described(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.settings) or "the defaults"

    def with_(self, **more: int) -> "Candidate":
        return Candidate(tuple((dict(self.settings) | more).items()))


@dataclass(slots=True)
class Measured:
    """What a candidate reached, one entry per round."""

    candidate: Candidate
    images_per_s: list[float] = field(default_factory=list)
    lone_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def throughput_over(self, other: "Measured") -> float:
        """Return images per second over another's, round by round, so that a drift of the machine cancels."""
        pairs = zip(self.images_per_s, other.images_per_s, strict=True)
        return statistics.median(mine / theirs for mine, theirs in pairs)

    def quickness_over(self, other: "Measured") -> float:
        """Return how many times quicker than another a lone request is answered, round by round."""
        pairs = zip(self.lone_ms, other.lone_ms, strict=True)
        return statistics.median(theirs / mine for mine, theirs in pairs)


@dataclass(frozen=True, slots=True)
class TuningPlan:
    """Each candidate gets `seconds` under load and as long with one request at a time, in every round."""

    repository: ModelRepository
    model: str
    version: int
    pictures: Path
    cores: int
    goal: Goal = "balanced"
    rounds: int = 3
    seconds: float = 2.0

    @property
    def concurrency(self) -> int:
        return max(8, 4 * self.cores)


def thread_candidates(cores: int) -> list[Candidate]:
    """Return the defaults, and threads per run × runs at once that use the cores once or a little more."""
    found = [Candidate()]
    threads = 1
    while threads <= cores:
        for instances in (max(1, cores // threads), cores // threads + 1):
            found.append(Candidate((("intra_op_threads", threads), ("instances", instances))))
        threads *= 2
    return list(dict.fromkeys(found))


def batch_candidates(best: Candidate, cores: int) -> list[Candidate]:
    """Return the defaults, `best`, and `best` with batches decoded by one thread and by all cores."""
    return [
        *dict.fromkeys((Candidate(), best)),
        *(best.with_(max_batch=4, max_delay_ms=2, decode_threads=n) for n in dict.fromkeys((1, cores))),
    ]


def choose(measured: list[Measured], goal: Goal) -> Measured:
    """Return the best for `goal`; among equals the one that stands first, so the defaults win a draw.

    `throughput`: most images per second; `latency`: quickest lone request; `balanced`: the quickest lone
    request of those with at least NEAR_BEST of the best throughput. All are measured in the same rounds.
    """
    first = measured[0]
    if goal == "throughput":
        return _first_best(measured, lambda one: one.throughput_over(first))
    if goal == "balanced":
        least = NEAR_BEST * max(one.throughput_over(first) for one in measured)
        measured = [one for one in measured if one.throughput_over(first) >= least]
    return _first_best(measured, lambda one: one.quickness_over(first))


def measure_tuning(plan: TuningPlan, on_step: Callable[[str], None]) -> tuple[Measured, list[Measured]]:
    """Return the chosen candidate and all of them. Raises ServerNotReady, SideFailed or MeasuringFailed."""
    with start_measuring("services.detector.cli.bench.load", str(plan.pictures)) as load:
        threads = _measure_all(plan, thread_candidates(plan.cores), load, on_step)
        best = choose(threads, plan.goal)
        batches = _measure_all(plan, batch_candidates(best.candidate, plan.cores), load, on_step)
        chosen = choose(batches, plan.goal)
    return chosen, [*threads, *batches]


def fragment(plan: TuningPlan, chosen: Measured, processor: str) -> str:
    """Return the lines of an environment file with the chosen settings and where they come from."""
    lines = [
        f"# `sightline bench tune`, {datetime.now(UTC):%Y-%m-%d}: {plan.model} version {plan.version}, for "
        f"{plan.goal}, {plan.cores} cores of {processor}",
        f"# {statistics.median(chosen.images_per_s):.1f} images/s at {plan.concurrency} requests at once, "
        f"{statistics.median(chosen.lone_ms):.1f} ms one at a time",
        *(f"{name}={value}" for name, value in chosen.candidate.environment.items()),
    ]
    if not chosen.candidate.settings:
        lines.append("# nothing was clearly better than the defaults")
    return "\n".join(lines) + "\n"


def summarise_tuning(plan: TuningPlan, chosen: Measured, measured: list[Measured]) -> dict[str, Any]:
    """Return the report: every candidate's medians, and which was chosen."""
    return {
        "goal": plan.goal,
        "cores": plan.cores,
        "concurrency": plan.concurrency,
        "chosen": chosen.candidate.environment,
        "candidates": [
            {
                "settings": one.candidate.environment,
                "described": one.candidate.described(),
                "images_per_s": round(statistics.median(one.images_per_s), 2),
                "lone_ms": round(statistics.median(one.lone_ms), 2),
                "cpu_ms": round(statistics.median(one.cpu_ms), 2),
                "chosen": one is chosen,
            }
            for one in measured
        ],
    }


def _measure_all(
    plan: TuningPlan,
    candidates: list[Candidate],
    load: MeasuringProcess,
    on_step: Callable[[str], None],
) -> list[Measured]:
    measured = [Measured(candidate) for candidate in candidates]
    for number in range(plan.rounds):
        for one in measured if number % 2 == 0 else reversed(measured):
            on_step(f"round {number + 1}: {one.candidate.described()}")
            _measure_one(plan, one, load)
    return measured


def _measure_one(plan: TuningPlan, one: Measured, process: MeasuringProcess) -> None:
    side: Side = detector_side(plan.repository, plan.model, plan.version, one.candidate.environment)
    with side.start() as server:
        load = Load(process, server, side)
        load.closed(plan.concurrency, WARM_UP_S)
        one.lone_ms.append(statistics.median(load.closed(1, plan.seconds)["latencies_ms"]))
        before = server.tree.cpu_seconds()
        answer = load.closed(plan.concurrency, plan.seconds)
        one.cpu_ms.append((server.tree.cpu_seconds() - before) / answer["answered"] * 1000)
        one.images_per_s.append(answer["answered"] / answer["wall_s"])


def _first_best(measured: list[Measured], merit: Callable[[Measured], float]) -> Measured:
    best = measured[0]
    for one in measured[1:]:
        if merit(one) > CLEAR_GAIN * merit(best):
            best = one
    return best
