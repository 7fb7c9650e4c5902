"""Dashboards and alerts ask only for metrics and labels that the code defines."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.detector.metrics import DetectorMetrics
from services.jobs.metrics import QueueCollector, jobs_metrics
from shared.core.telemetry import DiskCollector, http_metrics, new_registry
from shared.jobs.database import create_database_engine
from shared.jobs.migrate import migrate
from shared.jobs.reconciler import Reason
from shared.jobs.store import JobStore
from training.worker_status import worker_metrics

ROOT = Path(__file__).parents[2]
DASHBOARDS = sorted((ROOT / "docker" / "grafana" / "dashboards").glob("*.json"))
RULES = ROOT / "docker" / "prometheus" / "rules" / "sightline.yml"

# What Prometheus adds by itself: to every series, and as series.
TARGET_LABELS = {"job", "instance"}
OWN_SERIES = {"up": TARGET_LABELS, "ALERTS": {"alertname", "alertstate", "severity"}}

WORDS = {
    "by",
    "without",
    "on",
    "ignoring",
    "unless",
    "and",
    "or",
    "bool",
    "offset",
    "group_left",
    "group_right",
}


def alert_expressions() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]


def dashboard_expressions(path: Path) -> Iterator[str]:
    dashboard = json.loads(path.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"]
    for variable in dashboard["templating"]["list"]:
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]["query"]).groups()
        yield f'{metric}{{{label}=""}}'


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Return every series that a PromQL expression asks for, with the labels it is matched by."""
    text = re.sub(r'"(\\.|[^"\\])*"', '""', expression)
    text = re.sub(r"\[[^\]]*\]", "", text)
    text = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", text)
    found = re.findall(r"\b([a-zA-Z_:][\w:]*)\s*(?:\{([^}]*)\})?(?!\s*\(|\w)", text)
    return [
        (name, set(re.findall(r"(\w+)\s*[=!]", matchers)))
        for name, matchers in found
        if name not in WORDS and not re.search(rf"\b{name}\s*\(", text)
    ]


def grouping_labels(expression: str) -> set[str]:
    groups = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", expression)
    return {label.strip() for group in groups for label in group.split(",")}


@pytest.fixture(scope="module")
def known_series(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every series that a service can expose, with its labels."""
    engine = create_database_engine(f"sqlite:///{tmp_path_factory.mktemp('metrics') / 'jobs.db'}")
    migrate(engine)
    registry = new_registry()
    http_metrics(registry)
    DetectorMetrics(registry)
    jobs_metrics(registry)
    worker_metrics(registry, ["train"])
    registry.register(QueueCollector(JobStore(engine)))
    registry.register(DiskCollector({"var": Path.cwd()}))
    return {name: labels | TARGET_LABELS for name, labels in series_of(registry)} | OWN_SERIES


def series_of(registry: CollectorRegistry) -> Iterator[tuple[str, set[str]]]:
    # A metric with labels has no sample before its first use, so its label names come from the object.
    for collector in set(registry._names_to_collectors.values()):
        for metric in collector.collect():
            labels = set(getattr(collector, "_labelnames", ())) | {
                label for sample in metric.samples for label in sample.labels
            }
            if metric.type == "counter":
                yield f"{metric.name}_total", labels
            elif metric.type == "histogram":
                yield f"{metric.name}_bucket", labels | {"le"}
                yield f"{metric.name}_sum", labels
                yield f"{metric.name}_count", labels
            else:
                yield metric.name, labels
    for metric in registry.collect():  # collectors that describe nothing beforehand
        for sample in metric.samples:
            yield sample.name, set(sample.labels)


def wrong_names(expression: str, known: dict[str, set[str]]) -> list[str]:
    asked = selectors(expression)
    assert asked, expression
    wrong = [name for name, _ in asked if name not in known]
    wrong += [f"{name}{{{label}}}" for name, labels in asked for label in labels - known.get(name, labels)]
    reachable = set().union(*(known.get(name, set()) for name, _ in asked))
    return wrong + [f"by ({label})" for label in grouping_labels(expression) - reachable]


def test_alerts_ask_for_series_that_exist(known_series: dict[str, set[str]]) -> None:
    wrong = {expression: wrong_names(expression, known_series) for expression in alert_expressions()}
    assert {expression: names for expression, names in wrong.items() if names} == {}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboards_ask_for_series_that_exist(dashboard: Path, known_series: dict[str, set[str]]) -> None:
    wrong = {
        expression: wrong_names(expression, known_series) for expression in dashboard_expressions(dashboard)
    }
    assert {expression: names for expression, names in wrong.items() if names} == {}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sum(rate(sightline_http_request_total[5m]))", ["sightline_http_request_total"]),
        ('sum by (model) (up{jobs="x"})', ["up{jobs}", "by (model)"]),
        ("histogram_quantile(0.9, sum by (le) (rate(process_cpu_seconds_total[1m])))", ["by (le)"]),
        ('up{job="jobs"} == 0 unless on (instance) up{job="a{b}(c)"} > 1e3', []),
    ],
)
def test_the_check_finds_wrong_names(
    expression: str, expected: list[str], known_series: dict[str, set[str]]
) -> None:
    assert wrong_names(expression, known_series) == expected


def test_reasons_in_alerts_are_those_of_the_reconciler() -> None:
    for expression in alert_expressions():
        for matched in re.findall(r'_reconciled_total\{reason=~?"([^"]+)"\}', expression):
            assert set(matched.split("|")) <= set(get_args(Reason))


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_is_complete(dashboard: Path) -> None:
    document = json.loads(dashboard.read_text())
    assert document["uid"] == f"sightline-{dashboard.stem}"
    panels = [panel for panel in document["panels"] if panel["type"] != "row"]
    assert all(panel["title"] and panel["targets"] for panel in panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"prometheus"}
    places = [
        (panel["gridPos"]["x"] + column, panel["gridPos"]["y"] + line)
        for panel in document["panels"]
        for column in range(panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places))  # no panel lies over another
    assert max(column for column, _ in places) < 24


def test_the_dashboards_are_those_of_the_design() -> None:
    assert [path.stem for path in DASHBOARDS] == ["detector", "jobs", "overview"]
    ids = [json.loads(path.read_text())["uid"] for path in DASHBOARDS]
    assert len(set(ids)) == len(ids)
