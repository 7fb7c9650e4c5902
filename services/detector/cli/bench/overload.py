"""What becomes of a server that is asked for several times what it can give, and how it is afterwards."""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from services.detector.cli.bench.process_tree import ProcessTree
from services.detector.cli.bench.sides import Load

SATURATING = 32
CONNECTIONS = 1024
LONE_S = 2.0
SAMPLE_S = 0.1
RAMP_S = 1.0
RECOVERY_LIMIT_S = 30.0
NORMAL_LATENCY = 2.0  # times the median of before: then a request is answered as usual again
NORMAL_EXTRA_MS = 5.0
MIB = 2**20

# What is aimed at.
ANSWERED_SHARE = 0.95
REFUSAL_MS = 10.0
GROWTH_MIB = 16.0
RECOVERY_S = 2.0
OFFERED_SHARE = 0.9  # of what was to be offered: below it the generator was too slow to tell


@dataclass(frozen=True, slots=True)
class OverloadPlan:
    """`factor` times the saturated throughput is offered for `seconds`, at most `most` requests in all."""

    factor: float = 4.0
    seconds: float = 10.0
    saturation_s: float = 6.0
    most: int = 20_000


@dataclass(slots=True)
class OverloadSamples:
    """Everything that was measured; memory as (seconds since the start, bytes)."""

    lone_ms: list[float]
    saturated_per_s: float
    rate: float
    seconds: float
    answer: dict[str, Any]
    memory: list[tuple[float, int]] = field(default_factory=list)
    overloaded_from_s: float = 0.0
    overloaded_until_s: float = 0.0
    recovery_s: float | None = None  # None: not within RECOVERY_LIMIT_S


class MemoryWatch:
    """Samples the resident memory of a process tree in a thread of its own, for the length of a block."""

    def __init__(self, tree: ProcessTree) -> None:
        self._tree = tree
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.started = time.monotonic()
        self.samples: list[tuple[float, int]] = []

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append((time.monotonic() - self.started, self._tree.resident_bytes()))


def measure_overload(plan: OverloadPlan, load: Load, on_step: Callable[[str], None]) -> OverloadSamples:
    """Saturate, overload, and wait until a lone request is answered as before. Raises SideFailed."""
    on_step("one at a time")
    load.closed(4, 1.0)  # warm
    lone_ms = load.closed(1, LONE_S)["latencies_ms"]
    with MemoryWatch(load.server.tree) as memory:
        on_step("saturation")
        full = load.closed(SATURATING, plan.saturation_s)
        saturated = full["answered"] / full["wall_s"]
        rate = saturated * plan.factor
        seconds = min(plan.seconds, plan.most / rate)
        on_step(f"{rate:.0f} requests a second")
        begun = time.monotonic()
        answer = load.open(rate, seconds, CONNECTIONS)
        # The generator waits for what it has sent; the offer itself was over `offered_s` after it began.
        samples = OverloadSamples(lone_ms, saturated, rate, seconds, answer)
        offered_until = begun + answer["offered_s"]
        on_step("recovery")
        samples.recovery_s = _recovery(load, statistics.median(lone_ms), offered_until)
        samples.overloaded_from_s = begun - memory.started
        samples.overloaded_until_s = offered_until - memory.started
        time.sleep(1.0)
    samples.memory = memory.samples
    return samples


def _recovery(load: Load, lone_ms: float, offered_until: float) -> float | None:
    """Return the seconds from the end of the offer to a request that was answered in its usual time."""
    while time.monotonic() - offered_until < RECOVERY_LIMIT_S:
        lone = load.closed(1, 0.05)
        if any(each <= NORMAL_LATENCY * lone_ms + NORMAL_EXTRA_MS for each in lone["latencies_ms"]):
            return time.monotonic() - offered_until
    return None


def summarise_overload(plan: OverloadPlan, samples: OverloadSamples) -> dict[str, Any]:
    """Return the report's figures, and `aims` with what is met."""
    requests, seconds = samples.answer["requests"], samples.seconds
    statuses = Counter(str(status) for _, _, status, _ in requests)
    refusals = [(latency, retry) for _, latency, status, retry in requests if status == 429]
    refusal_ms = [latency for latency, _ in refusals]
    answered_at = [sent + latency / 1000 for sent, latency, status, _ in requests if status == 200]
    ramp_s = min(RAMP_S, seconds / 4)  # left out: the first pictures are still being computed then
    answered_per_s = sum(ramp_s < at <= seconds for at in answered_at) / (seconds - ramp_s)
    share = answered_per_s / samples.saturated_per_s
    offered = len(requests) + samples.answer["failures"]
    before = _peak(samples, 0.0, samples.overloaded_from_s)
    during = _peak(samples, samples.overloaded_from_s, samples.overloaded_until_s)
    end = samples.memory[-1][1] if samples.memory else 0
    report = {
        "factor": plan.factor,
        "seconds": round(seconds, 2),
        "lone_p50_ms": round(statistics.median(samples.lone_ms), 2),
        "saturated_per_s": round(samples.saturated_per_s, 2),
        "offered_per_s": round(offered / samples.answer["offered_s"], 2),
        "unsent": samples.answer["unsent"],
        "generator_lag_ms": round(samples.answer["lag_ms"], 3),
        "answered_per_s": round(answered_per_s, 2),
        "answered_share": round(share, 4),
        "statuses": dict(statuses),
        "failures": samples.answer["failures"],
        "refused": len(refusals),
        "refused_without_retry_after": sum(retry is None for _, retry in refusals),
        "refusal_p50_ms": round(statistics.median(refusal_ms), 3) if refusal_ms else None,
        "refusal_p95_ms": _p95(refusal_ms),
        "resident_before_mib": round(before / MIB, 1),
        "resident_peak_mib": round(during / MIB, 1),
        "resident_after_mib": round(end / MIB, 1),
        "resident_mib": [[round(at, 2), round(held / MIB, 1)] for at, held in samples.memory],
        "recovery_s": None if samples.recovery_s is None else round(samples.recovery_s, 3),
    }
    report["aims"] = _aims(report, plan)
    return report


def _aims(report: dict[str, Any], plan: OverloadPlan) -> list[dict[str, Any]]:
    unusual = sum(count for status, count in report["statuses"].items() if status not in ("200", "429"))
    never = RECOVERY_LIMIT_S
    rows = [
        ("offered, times the saturated throughput", report["offered_per_s"] / report["saturated_per_s"],
         plan.factor * OFFERED_SHARE, True),
        ("share of the saturated throughput still answered", report["answered_share"], ANSWERED_SHARE, True),
        ("median refusal, ms", report["refusal_p50_ms"] or 0.0, REFUSAL_MS, False),
        ("refusals without Retry-After", report["refused_without_retry_after"], 0, False),
        ("answers but 200 and 429, or none", unusual + report["failures"], 0, False),
        ("memory grown meanwhile, MiB", report["resident_peak_mib"] - report["resident_before_mib"],
         GROWTH_MIB, False),
        ("seconds until answered as usual", never if report["recovery_s"] is None else report["recovery_s"],
         RECOVERY_S, False),
    ]  # fmt: skip
    return [
        {
            "aim": name,
            "value": round(value, 3),
            "limit": limit,
            "least": least,
            "met": value >= limit if least else value <= limit,
        }
        for name, value, limit, least in rows
    ]


def _peak(samples: OverloadSamples, first_s: float, last_s: float) -> int:
    held = [held for at, held in samples.memory if first_s <= at <= last_s]
    return max(held, default=samples.memory[0][1] if samples.memory else 0)


def _p95(values: list[float]) -> float | None:
    if len(values) < 2:
        return round(values[0], 3) if values else None
    return round(statistics.quantiles(values, n=20, method="inclusive")[18], 3)
