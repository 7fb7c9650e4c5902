"""What serving costs on top of a bare loop, beside what it costs others, measured in turns within one run."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from services.detector.cli.bench.load import LEAST_TURNS
from services.detector.cli.bench.machine import OtherLoad
from services.detector.cli.bench.measuring import MeasuringProcess, start_measuring
from services.detector.cli.bench.server_process import ServerNotReady
from services.detector.cli.bench.sides import (
    ANSWER_DEADLINE_S,
    SIGHTLINE,
    Load,
    Side,
    SideFailed,
    check_answers,
    serving,
)

CONCURRENCIES = (1, 8, 32, 128)
WARM_UP_S = 0.7
_PACKAGE = "services.detector.cli.bench"
_START_S = 4.0  # of a server, for the estimate
_USUAL_IMAGES_PER_S = 40.0  # of a usual model on two cores, for the estimate


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """What is measured, and how much of it: `version` is the folder of the version that the bare loop runs.

    Each round gives every side a fresh process and `seconds` at each concurrency, with the bare loops before
    and after. `threads` is how many pictures each side computes at once: the cores.
    """

    version: Path
    pictures: Path
    sides: list[Side]
    threads: int
    rounds: int = 3
    seconds: float = 2.5
    concurrencies: tuple[int, ...] = CONCURRENCIES

    @property
    def steps(self) -> int:
        """How often `on_step` is called."""
        usable = sum(side.unusable is None for side in self.sides)
        return self.rounds * (usable * (1 + len(self.concurrencies)) + usable + 1)

    @property
    def estimated_s(self) -> float:
        """About how long it takes; longer for a model that answers fewer pictures a second than usual."""
        usable = sum(side.unusable is None for side in self.sides)
        each = sum(max(self.seconds, LEAST_TURNS * one / _USUAL_IMAGES_PER_S) for one in self.concurrencies)
        bare = self.seconds * 1.5
        return self.rounds * (usable * (_START_S + WARM_UP_S + each) + (usable + 1) * bare)


@dataclass(frozen=True, slots=True)
class BareTurn:
    """One turn of the bare loops: `threads` threads over a session; one picture at a time on all cores."""

    images_per_s: float
    cpu_ms: float  # per image
    p50_ms: float
    lone_p50_ms: float


@dataclass(frozen=True, slots=True)
class LoadTurn:
    """One turn of a side at one concurrency; `cpu_ms` is per answered picture, of the whole process tree."""

    latencies_ms: list[float]
    images_per_s: float
    cpu_ms: float
    refused: int
    failed: int


@dataclass(slots=True)
class SideTurn:
    """One round of a side, between two turns of the bare loops."""

    ready_s: float
    loads: dict[int, LoadTurn] = field(default_factory=dict)
    resident_bytes: int = 0
    proportional_bytes: int = 0
    before: BareTurn | None = None
    after: BareTurn | None = None


@dataclass(slots=True)
class Samples:
    """Everything that was measured: turns of each side in the order of rounds, who was left out and why."""

    bare: list[BareTurn] = field(default_factory=list)
    sides: dict[str, list[SideTurn]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    other_cpu_share: float = 0.0  # of the whole machine, while the bare loops ran


class ServingFailed(RuntimeError):
    """This project's own server could not be measured."""


def measure_serving(plan: ServingPlan, on_step: Callable[[str], None]) -> Samples:
    """Run the plan; `on_step` is told of each step.

    A peer that does not start, ends or answers otherwise than the bare loop is left out from there on.
    Raises ServingFailed where that is this server, and MeasuringFailed.
    """
    samples = Samples(left_out={side.name: side.unusable for side in plan.sides if side.unusable})
    with _measuring(plan) as (bare, lone, load):
        expected = bare.ask(ANSWER_DEADLINE_S, model=0, detect=True)["answers"]
        others: list[float] = []
        for number in range(plan.rounds):
            shift = number % len(plan.sides)
            last: SideTurn | None = None
            # Another order each round, so that a drift of the machine favours nobody.
            for side in plan.sides[shift:] + plan.sides[:shift]:
                if side.name in samples.left_out:
                    continue
                before = _bare_turn(plan, bare, lone, others, on_step)
                samples.bare.append(before)
                if last is not None:
                    last.after = before
                last = _try_side(plan, samples, side, load, expected, on_step)
                if last is not None:
                    last.before = before
            closing = _bare_turn(plan, bare, lone, others, on_step)
            samples.bare.append(closing)
            if last is not None:
                last.after = closing
    samples.other_cpu_share = max(others)
    return samples


@contextlib.contextmanager
def _measuring(plan: ServingPlan) -> Iterator[tuple[MeasuringProcess, MeasuringProcess, MeasuringProcess]]:
    loop = f"{_PACKAGE}.bare_loop"
    with (
        start_measuring(loop, str(plan.pictures), "1", str(plan.version)) as bare,
        start_measuring(loop, str(plan.pictures), str(plan.threads), str(plan.version)) as lone,
        start_measuring(f"{_PACKAGE}.load", str(plan.pictures)) as load,
    ):
        yield bare, lone, load


def _try_side(
    plan: ServingPlan,
    samples: Samples,
    side: Side,
    load: MeasuringProcess,
    expected: list[list[dict[str, Any]]],
    on_step: Callable[[str], None],
) -> SideTurn | None:
    try:
        turn = _side_turn(plan, side, load, expected if side.name not in samples.sides else None, on_step)
    except (ServerNotReady, SideFailed) as error:
        if side.name == SIGHTLINE:
            raise ServingFailed(str(error)) from error
        samples.left_out[side.name] = str(error)
        samples.sides.pop(side.name, None)
        return None
    samples.sides.setdefault(side.name, []).append(turn)
    return turn


def _side_turn(
    plan: ServingPlan,
    side: Side,
    load: MeasuringProcess,
    expected: list[list[dict[str, Any]]] | None,
    on_step: Callable[[str], None],
) -> SideTurn:
    on_step(f"{side.title}: start")
    with serving(side, load) as asked:
        turn = SideTurn(asked.server.ready_s)
        if expected is not None and side.compared:
            check_answers(asked, expected)
        asked.closed(2 * plan.threads, WARM_UP_S)
        for concurrency in plan.concurrencies:
            on_step(f"{side.title}: concurrency {concurrency}")
            turn.loads[concurrency] = _load_turn(asked, concurrency, plan.seconds)
        tree = asked.server.tree
        turn.resident_bytes, turn.proportional_bytes = tree.resident_bytes(), tree.proportional_bytes()
    return turn


def _load_turn(load: Load, concurrency: int, seconds: float) -> LoadTurn:
    tree = load.server.tree
    before = tree.cpu_seconds()
    answer = load.closed(concurrency, seconds)
    used_ms = (tree.cpu_seconds() - before) * 1000
    if not answer["latencies_ms"]:
        raise SideFailed(
            f"{load.side.title} gave no usable answer at concurrency {concurrency}: "
            f"{answer['statuses']}, {answer['failures']} failures"
        )
    return LoadTurn(
        answer["latencies_ms"],
        answer["answered"] / answer["wall_s"],
        used_ms / answer["answered"],
        refused=sum(count for status, count in answer["statuses"].items() if status in ("429", "503")),
        failed=answer["failures"]
        + sum(count for status, count in answer["statuses"].items() if status not in ("200", "429", "503")),
    )


def _bare_turn(
    plan: ServingPlan,
    bare: MeasuringProcess,
    lone: MeasuringProcess,
    others: list[float],
    on_step: Callable[[str], None],
) -> BareTurn:
    on_step("bare loops")
    elsewhere = OtherLoad(bare.pid, lone.pid)
    before = bare.cpu_seconds()
    answer = bare.ask(ANSWER_DEADLINE_S, model=0, threads=plan.threads, seconds=plan.seconds)
    used_ms = (bare.cpu_seconds() - before) * 1000
    alone = lone.ask(ANSWER_DEADLINE_S, model=0, threads=1, seconds=plan.seconds / 2)["latencies_ms"]
    others.append(elsewhere.share())
    count = len(answer["latencies_ms"])
    return BareTurn(count / answer["wall_s"], used_ms / count, median(answer["latencies_ms"]), median(alone))
