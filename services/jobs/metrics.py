"""Prometheus metrics of the jobs service."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.core.logging import get_logger
from shared.jobs.problems import DatabaseUnavailable
from shared.jobs.reconciler import Reason
from shared.jobs.store import JobStore

logger = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobsMetrics:
    submissions: Counter
    wake_ups: Counter
    reconciled: Counter
    watchers: Gauge


def jobs_metrics(registry: CollectorRegistry) -> JobsMetrics:
    """Define what the service counts itself; every reason of the reconciler begins at 0."""
    metrics = JobsMetrics(
        submissions=Counter(
            "sightline_jobs_submissions_total",
            "Submissions by outcome: created, repeated, conflict, invalid, unavailable.",
            ["outcome"],
            registry=registry,
        ),
        wake_ups=Counter(
            "sightline_jobs_wake_ups_total",
            "Wake-ups that a request sent, by outcome: published, failed.",
            ["outcome"],
            registry=registry,
        ),
        reconciled=Counter(
            "sightline_jobs_reconciled_total",
            "The reconciler's deeds (requeued, failed, cancelled, resent) and obstacles (broker_away, …).",
            ["reason"],
            registry=registry,
        ),
        watchers=Gauge("sightline_jobs_watchers", "Event streams that are open.", registry=registry),
    )
    for reason in get_args(Reason):  # increase() does not see the step from no series to 1
        metrics.reconciled.labels(reason)
    return metrics


class QueueCollector(Collector):
    """Gauges read from the table at each scrape; absent, not zero, while the database is away."""

    def __init__(self, store: JobStore) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("sightline_jobs", "Jobs in the table by state.", labels=["status"])
        oldest = GaugeMetricFamily(
            "sightline_jobs_oldest_queued_seconds", "How long the oldest queued job has been waiting."
        )
        try:
            figures = self._store.figures()
        except DatabaseUnavailable as error:
            logger.warning("no figures of the queue", error=error.detail)
            return []
        for state, count in figures.by_state.items():
            jobs.add_metric([state.value], count)
        oldest.add_metric([], figures.oldest_queued_s)
        return [jobs, oldest]

    def describe(self) -> Iterable[Metric]:
        """Say nothing beforehand: the registry would ask the table before it is there."""
        return []
