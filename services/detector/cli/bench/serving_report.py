"""From the turns of a serving benchmark to its figures, and what they mean beside what is aimed at."""

import statistics
from collections.abc import Callable, Iterable
from typing import Any

from services.detector.cli.bench.serving import LoadTurn, Samples, ServingPlan, SideTurn
from services.detector.cli.bench.sides import INT8, SIGHTLINE

MIB = 2**20
BATCHING = ("litserve", "mlserver", "bentoml", "rayserve")  # plain FastAPI does not batch

# What is aimed at, with everything on: metrics, validation, batching, deadlines.
OWN_COST_MS = 0.8
CPU_RATIO = 1.03
LONE_LATENCY_RATIO = 1.10
THROUGHPUT_RATIO = 0.97
INT8_RATIO = 2.0
RESIDENT_MIB = 250.0


def summarise(plan: ServingPlan, samples: Samples) -> dict[str, Any]:
    """Return medians over the rounds with the least and the most beside them, per side and concurrency.

    Ratios and costs compare a turn with the bare loops right before and after it, so that a drift of the
    machine cancels: `own_cost_ms` is CPU per image over theirs, `cpu_ratio` the same as a ratio,
    `throughput_ratio` images per second over theirs, and `lone_ratio` at concurrency 1 the median latency
    over that of the loop which gives one picture all cores.
    """
    bare = samples.bare
    return {
        "rounds": max((len(turns) for turns in samples.sides.values()), default=0),
        "seconds": plan.seconds,
        "threads": plan.threads,
        "bare": {
            "images_per_s": _spread(turn.images_per_s for turn in bare),
            "cpu_ms": _spread(turn.cpu_ms for turn in bare),
            "p50_ms": _spread(turn.p50_ms for turn in bare),
            "lone_p50_ms": _spread(turn.lone_p50_ms for turn in bare),
        },
        "sides": {
            side.name: {"title": side.title, **_of_side(plan, samples.sides[side.name])}
            for side in plan.sides
            if side.name in samples.sides
        },
        "left_out": samples.left_out,
        "other_cpu_share": round(samples.other_cpu_share, 3),
    }


def aims(report: dict[str, Any], *, without_model: bool) -> list[dict[str, Any]]:
    """Return what is aimed at for this server and whether `report` meets it; only what it has figures for."""
    rows: list[dict[str, Any]] = []
    sides = report["sides"]
    ours = sides.get(SIGHTLINE)
    if ours is None:
        return rows

    def at(concurrency: int, figure: str, side: dict[str, Any] | None = ours) -> float | None:
        load = (side or {}).get("concurrency", {}).get(str(concurrency), {})
        return load[figure]["median"] if figure in load else None

    def row(what: str, value: float | None, limit: float | None, *, least: bool = False) -> None:
        if value is not None and limit is not None:
            met = value >= limit if least else value <= limit
            rows.append({"aim": what, "value": value, "limit": round(limit, 3), "least": least, "met": met})

    row("own cost per request at 8, ms", at(8, "own_cost_ms"), OWN_COST_MS)
    others = [at(8, "own_cost_ms", sides.get(name)) for name in BATCHING]
    lowest = min((cost for cost in others if cost is not None), default=None)
    row("own cost at 8, ms, against the lowest of those that batch", at(8, "own_cost_ms"), lowest)
    if not without_model:
        for concurrency in (8, 32):
            row(f"CPU per image over the bare loop at {concurrency}", at(concurrency, "cpu_ratio"), CPU_RATIO)
        row("median latency at 1 over the bare loop on all cores", at(1, "lone_ratio"), LONE_LATENCY_RATIO)
        row(
            "images/s at 32 over the bare loop",
            at(32, "throughput_ratio"),
            THROUGHPUT_RATIO,
            least=True,
        )
        row("resident memory with one model, MiB", ours["resident_mib"]["median"], RESIDENT_MIB)
        best = [at(32, "images_per_s", side) for name, side in sides.items() if name not in (SIGHTLINE, INT8)]
        best_peer = max((rate for rate in best if rate is not None), default=None)
        if INT8 in sides and best_peer is not None:
            rate = at(32, "images_per_s", sides[INT8])
            ratio = None if rate is None else round(rate / best_peer, 3)
            row("int8: images/s at 32 over the best peer on fp32", ratio, INT8_RATIO, least=True)
    return rows


def _of_side(plan: ServingPlan, turns: list[SideTurn]) -> dict[str, Any]:
    return {
        "rounds": len(turns),
        "ready_s": _spread(turn.ready_s for turn in turns),
        "resident_mib": _spread(turn.resident_bytes / MIB for turn in turns),
        "proportional_mib": _spread(turn.proportional_bytes / MIB for turn in turns),
        "concurrency": {str(concurrency): _of_load(turns, concurrency) for concurrency in plan.concurrencies},
    }


def _of_load(turns: list[SideTurn], concurrency: int) -> dict[str, Any]:
    loads = [turn.loads[concurrency] for turn in turns]
    cuts = statistics.quantiles(
        [latency for load in loads for latency in load.latencies_ms], n=100, method="inclusive"
    )

    def against(compare: Callable[[LoadTurn, SideTurn], float]) -> dict[str, float]:
        return _spread(compare(turn.loads[concurrency], turn) for turn in turns)

    figures = {
        "images_per_s": _spread(load.images_per_s for load in loads),
        "p50_ms": round(cuts[49], 2),
        "p95_ms": round(cuts[94], 2),
        "p99_ms": round(cuts[98], 2),
        "cpu_ms": _spread(load.cpu_ms for load in loads),
        "own_cost_ms": against(lambda load, turn: load.cpu_ms - _beside(turn, "cpu_ms")),
        "cpu_ratio": against(lambda load, turn: load.cpu_ms / _beside(turn, "cpu_ms")),
        "throughput_ratio": against(lambda load, turn: load.images_per_s / _beside(turn, "images_per_s")),
        "refused": sum(load.refused for load in loads),
        "failed": sum(load.failed for load in loads),
    }
    if concurrency == 1:
        figures["lone_ratio"] = against(
            lambda load, turn: statistics.median(load.latencies_ms) / _beside(turn, "lone_p50_ms")
        )
    return figures


def _beside(turn: SideTurn, figure: str) -> float:
    """Return a figure of the bare loops next to a turn: the mean of before and after."""
    assert turn.before is not None
    assert turn.after is not None
    return (float(getattr(turn.before, figure)) + float(getattr(turn.after, figure))) / 2


def _spread(values: Iterable[float]) -> dict[str, float]:
    each = list(values)
    return {
        "median": round(statistics.median(each), 3),
        "min": round(min(each), 3),
        "max": round(max(each), 3),
    }
