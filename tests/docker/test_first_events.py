"""A counter that an alert watches with increase() is there, at 0, before its first event."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from services.jobs.metrics import jobs_metrics
from training.worker_status import JobClock, worker_metrics

REASONS = {"requeued", "failed", "cancelled", "resent", "broker_away", "database_away"}


def values(registry: CollectorRegistry, name: str) -> dict[tuple[str, ...], float]:
    return {
        tuple(sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == name
    }


@pytest.mark.parametrize(
    ("name", "define"),
    [
        ("sightline_jobs_reconciled_total", jobs_metrics),
        ("sightline_worker_reconciled_total", lambda registry: worker_metrics(registry, [])),
    ],
    ids=["jobs", "worker"],
)
def test_every_reason_of_the_reconciler_begins_at_0(
    name: str, define: Callable[[CollectorRegistry], object]
) -> None:
    registry = CollectorRegistry()
    define(registry)
    assert values(registry, name) == {(reason,): 0.0 for reason in REASONS}


def test_every_outcome_of_every_kind_of_job_begins_at_0_and_the_first_one_is_a_step() -> None:
    registry = CollectorRegistry()
    clock = JobClock(worker_metrics(registry, ["export", "train"]))
    outcomes = {"succeeded", "failed", "retried", "cancelled", "released", "lost"}
    expected = {(kind, outcome): 0.0 for kind in ("export", "train") for outcome in outcomes}
    assert values(registry, "sightline_worker_jobs_total") == expected
    clock.started("train")
    clock.ended("train", "failed")
    assert values(registry, "sightline_worker_jobs_total") == expected | {("train", "failed"): 1.0}
