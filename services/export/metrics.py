"""Prometheus metrics of the export service; how the exports went is counted by the worker."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter


@dataclass(frozen=True, slots=True)
class ExportMetrics:
    submissions: Counter
    wake_ups: Counter


def export_metrics(registry: CollectorRegistry) -> ExportMetrics:
    """Define what the service counts itself."""
    return ExportMetrics(
        submissions=Counter(
            "sightline_export_submissions_total",
            "Requests to export by outcome: created, repeated, conflict, invalid, unavailable.",
            ["outcome"],
            registry=registry,
        ),
        wake_ups=Counter(
            "sightline_export_wake_ups_total",
            "Wake-ups that a request sent, by outcome: published, failed.",
            ["outcome"],
            registry=registry,
        ),
    )
