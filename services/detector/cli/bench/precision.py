"""Versions of one model side by side: latency, throughput, CPU time, size and accuracy, in one run."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.detector.cli.bench.machine import OtherLoad
from services.detector.cli.bench.measuring import start_measuring
from shared.repository.manifest import MODEL_FILE, Manifest
from shared.repository.repository import ModelRepository

WARM_UP_IMAGES = 8
ANSWER_DEADLINE_S = 300.0
_BARE = {
    "detection": "services.detector.cli.bench.bare_loop",
    "classification": "services.detector.cli.bench.bare_labels",
}
_QUALITY = {"detection": ("ap", "ap50"), "classification": ("macro_f1", "map")}


@dataclass(frozen=True, slots=True)
class PrecisionPlan:
    """Which versions run, and how much: per round `images` by `threads` threads, `latency_images` by one."""

    repository: ModelRepository
    model: str
    versions: list[int]
    pictures: Path
    rounds: int = 5
    images: int = 100
    latency_images: int = 40
    threads: int = 2
    intra_op: int = 1
    max_s: float = 600.0


@dataclass(slots=True)
class VersionSamples:
    """Of one version, one entry per round."""

    latencies_ms: list[float]
    images_per_s: list[float]
    cpu_ms: list[float]


def measure_precision(plan: PrecisionPlan, on_step: Callable[[str], None]) -> dict[str, Any]:
    """Return `versions`, a row for each of `plan.versions`, and `other_cpu_share` of the machine meanwhile.

    Every round runs every version once, in alternating order, each through the bare loop: what differs is
    the file alone. All are of one task. Accuracy comes from the manifests, where the export gate wrote it;
    of classification models, `agreement` is the share of labels decided on `pictures` as by the first
    version, and `gate_agreement` that on the gate's pictures as by the network. Raises MeasuringFailed.
    """
    folders = [str(plan.repository.path(plan.model, version)) for version in plan.versions]
    samples = [VersionSamples([], [], []) for _ in plan.versions]
    give_up_at = time.monotonic() + plan.max_s
    task = plan.repository.manifest(plan.model, plan.versions[0]).task
    with start_measuring(_BARE[task], str(plan.pictures), str(plan.intra_op), *folders) as bare:

        def run(index: int, threads: int, count: int) -> dict[str, Any]:
            return bare.ask(ANSWER_DEADLINE_S, model=index, threads=threads, count=count)

        on_step("warm-up")
        for index in range(len(folders)):
            run(index, plan.threads, WARM_UP_IMAGES)
        others = OtherLoad(bare.pid)
        for number in range(plan.rounds):
            if number and time.monotonic() > give_up_at:
                break
            on_step(f"round {number + 1}")
            order = range(len(folders))
            for index in reversed(order) if number % 2 else order:
                before = bare.cpu_seconds()
                answer = run(index, plan.threads, plan.images)
                samples[index].cpu_ms.append((bare.cpu_seconds() - before) / plan.images * 1000)
                samples[index].images_per_s.append(plan.images / answer["wall_s"])
                alone = run(index, 1, plan.latency_images)["latencies_ms"]
                samples[index].latencies_ms.append(statistics.median(alone))
        other_cpu_share = round(others.share(), 3)
        rows = [
            _row(plan, version, one, samples[0]) for version, one in zip(plan.versions, samples, strict=True)
        ]
        if task == "classification":
            on_step("agreement")
            decided = [
                np.array(bare.ask(ANSWER_DEADLINE_S, model=index, labels=True)["present"])
                for index in range(len(folders))
            ]
            for row, labels in zip(rows, decided, strict=True):
                row["agreement"] = round(float((labels == decided[0]).mean()), 4)
    return {"versions": rows, "other_cpu_share": other_cpu_share}


def _row(plan: PrecisionPlan, version: int, samples: VersionSamples, first: VersionSamples) -> dict[str, Any]:
    manifest = plan.repository.manifest(plan.model, version)
    # Each round against the same round of the first version, so that a drift of the machine cancels.
    speedups = [mine / theirs for mine, theirs in zip(samples.images_per_s, first.images_per_s, strict=True)]
    return {
        "version": version,
        "precision": manifest.precision,
        "file_bytes": manifest.files[MODEL_FILE].bytes,
        **_quality(manifest),
        "rounds": len(samples.images_per_s),
        "latency_ms": round(statistics.median(samples.latencies_ms), 2),
        "images_per_s": round(statistics.median(samples.images_per_s), 2),
        "cpu_ms_per_image": round(statistics.median(samples.cpu_ms), 2),
        "speedup": round(statistics.median(speedups), 3),
    }


def _quality(manifest: Manifest) -> dict[str, float | None]:
    """Return what the gate measured; None for what it did not, as of an untrained network."""
    before, after = manifest.metrics.before, manifest.metrics.after
    quality = {name: after.get(name) for name in _QUALITY[manifest.task]}
    if manifest.task != "classification":
        return quality
    both = "macro_f1" in before and "macro_f1" in after
    change = round(after["macro_f1"] - before["macro_f1"], 6) if both else None
    return {**quality, "macro_f1_change": change, "gate_agreement": manifest.parity.get("agreement")}
