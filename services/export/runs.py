"""Run folders as the exporter reads them; docs/training.md describes every file in one. Free of torch."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.export.problems import IncompleteRun, UnknownRun
from shared.config import ConfigError, RunConfig, load_run_config
from shared.core.files import PathEscapesRoot, resolve_under

# Of the metrics, those that a list of runs shows: detection's, then classification's.
HEADLINE = ("ap", "ap50", "macro_f1", "map")

WEIGHTS, CONFIG, LABELS, METRICS = "weights.safetensors", "config.yaml", "labels.json", "metrics.json"


@dataclass(frozen=True, slots=True)
class Run:
    """A run that can be exported."""

    path: Path
    config: RunConfig
    labels: list[str]
    metrics: dict[str, Any]

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def data_hashes(self) -> dict[str, str]:
        """Content hash of every split at the end of training; empty for a run that was cut short."""
        hashes = self.metrics.get("data_hash")
        return hashes if isinstance(hashes, dict) else {}

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS


def find_run(runs_root: Path, run: str) -> Path:
    """Return the folder of a run given by its id. Raises UnknownRun, also for a path out of the root."""
    try:
        path = resolve_under(runs_root, run)
        is_there = path != runs_root.resolve() and (path / CONFIG).is_file()
    except PathEscapesRoot as error:
        raise UnknownRun(str(error), run=run) from error
    except OSError:  # a name longer than the file system allows
        is_there = False
    if not is_there:
        recent = ", ".join(summary["run_id"] for summary in list_runs(runs_root)[:5]) or "none"
        raise UnknownRun(f"there is no run {run!r} under {runs_root}; the latest are: {recent}", run=run)
    return path


def read_run(path: Path) -> Run:
    """Read a run's folder. Raises IncompleteRun where a part is missing or does not read."""
    if not (path / WEIGHTS).is_file():
        raise IncompleteRun(
            f"{path} holds no {WEIGHTS}; train the run to its first evaluation", run=path.name
        )
    try:
        config = load_run_config(path / CONFIG)
        labels = json.loads((path / LABELS).read_text())
        metrics = json.loads((path / METRICS).read_text()) if (path / METRICS).is_file() else {}
    except (ConfigError, OSError, ValueError) as error:
        raise IncompleteRun(f"{path} cannot be read: {error}", run=path.name) from error
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise IncompleteRun(f"{path / LABELS} holds {labels!r}, not a list of class names", run=path.name)
    return Run(path, config, labels, metrics if isinstance(metrics, dict) else {})


def list_runs(runs_root: Path) -> list[dict[str, Any]]:
    """Return what there is to know of every run folder at a glance, the latest first.

    A folder that is still being written, or is damaged, is listed as far as it can be read.
    """
    if not runs_root.is_dir():
        return []
    summaries = [
        summarise(path)
        for path in runs_root.iterdir()
        if path.is_dir() and not path.name.startswith(".") and (path / CONFIG).is_file()
    ]
    return sorted(summaries, key=lambda summary: str(summary["changed_at"]), reverse=True)


def summarise(path: Path) -> dict[str, Any]:
    """Return what `list_runs` says of one folder."""
    problem, family, recipe, metrics = None, None, None, {}
    try:
        config = load_run_config(path / CONFIG)
        family, recipe = config.family, config.recipe
        if (path / METRICS).is_file():
            metrics = json.loads((path / METRICS).read_text())
    except (ConfigError, OSError, ValueError) as error:
        problem = str(error)
    weights = path / WEIGHTS
    changed = (weights if weights.is_file() else path / CONFIG).stat().st_mtime
    return {
        "run_id": path.name,
        "family": family,
        "recipe": recipe,
        "exportable": weights.is_file() and problem is None,
        "metrics": {key: value for key, value in _numbers(metrics).items() if key in HEADLINE},
        "problem": problem,
        "changed_at": datetime.fromtimestamp(changed, UTC).isoformat(timespec="seconds"),
    }


def _numbers(metrics: Any) -> dict[str, float]:
    """Return the numbers of the split that the run was finally evaluated on."""
    chosen = metrics.get(metrics.get("evaluated_on")) if isinstance(metrics, dict) else None
    if not isinstance(chosen, dict):
        return {}
    return {key: float(value) for key, value in chosen.items() if isinstance(value, int | float)}
