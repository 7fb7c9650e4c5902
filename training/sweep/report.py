"""What a sweep came to: one table, one plot, and both as files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from shared.core.files import atomic_path, write_atomic
from training.sweep.points import Point
from training.sweep.queue import Job

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

Row = dict[str, Any]

_NUMBERS = ("ap50", "ap", "f1", "parameters", "seconds")


def make_rows(results: Sequence[tuple[Point, Job]], metric: str) -> list[Row]:
    """Return one row per point, the best by `metric` first; those that did not succeed come last."""
    rows = [_row(point, job) for point, job in results]
    return sorted(rows, key=lambda row: (row[metric] is None, -(row[metric] or 0.0)))


def table(rows: Sequence[Row], title: str) -> "Table":
    """Return the rows for a terminal."""
    from rich.table import Table

    keys = list(rows[0]["point"])
    shown = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for key in keys:
        shown.add_column(key, justify="right")
    for heading in ("AP50", "AP", "F1", "params", "seconds"):
        shown.add_column(heading, justify="right")
    shown.add_column("state")
    for row in rows:
        numbers = [
            _text(row["ap50"], ".3f"),
            _text(row["ap"], ".3f"),
            _text(row["f1"], ".3f"),
            _text(row["parameters"], ",d"),
            _text(row["seconds"], ".0f"),
        ]
        state = row["state"] + (f": {row['error'].splitlines()[0][:80]}" if row["error"] else "")
        shown.add_row(*(row["point"][key] for key in keys), *numbers, state)
    return shown


def write_report(folder: Path, rows: Sequence[Row], title: str, metric: str) -> dict[str, Path]:
    """Write sweep.csv, sweep.json and sweep.png into `folder`; return their paths by suffix."""
    paths = {suffix: folder / f"sweep.{suffix}" for suffix in ("csv", "json", "png")}
    text = io.StringIO()
    keys = list(rows[0]["point"])
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *_NUMBERS, "state", "job", "error"])
    for row in rows:
        writer.writerow(
            [
                *(row["point"][key] for key in keys),
                *(row[name] for name in _NUMBERS),
                row["state"],
                row["job"],
                row["error"],
            ]
        )
    write_atomic(paths["csv"], text.getvalue())
    write_atomic(paths["json"], orjson.dumps(list(rows), option=orjson.OPT_INDENT_2))
    with atomic_path(paths["png"]) as temporary:
        plot(rows, title, metric).savefig(temporary, dpi=120)
    return paths


def plot(rows: Sequence[Row], title: str, metric: str) -> "Figure":
    """Return one picture: points for one swept key, a heat map for a grid of two, ranked bars for more."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = list(rows[0]["point"])
    axis_values = [_ordered({row["point"][key] for row in rows}) for key in keys]
    full_grid = len(keys) == 2 and len(rows) == len(axis_values[0]) * len(axis_values[1])
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    if len(keys) == 1:
        _points(axes, rows, keys[0], axis_values[0])
    elif full_grid:
        _heat_map(figure, axes, rows, keys, axis_values, metric)
    else:
        _bars(axes, rows, metric)
    axes.set_title(title)
    return figure


def _points(axes: Any, rows: Sequence[Row], key: str, values: list[str]) -> None:
    by_value = {row["point"][key]: row for row in rows}
    for name, label in (("ap50", "AP50"), ("ap", "AP 50:95")):
        heights = [by_value[value][name] for value in values]
        there = [(place, height) for place, height in enumerate(heights) if height is not None]
        axes.plot([place for place, _ in there], [height for _, height in there], "o-", label=label)
    for place, value in enumerate(values):
        if by_value[value]["ap50"] is None:
            axes.text(place, 0.02, by_value[value]["state"], rotation=90, ha="center", color="firebrick")
    axes.set_xticks(range(len(values)), values)
    axes.set(xlabel=key, ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()


def _heat_map(
    figure: Any, axes: Any, rows: Sequence[Row], keys: list[str], values: list[list[str]], metric: str
) -> None:
    import numpy as np

    heights = np.full((len(values[0]), len(values[1])), np.nan)
    for row in rows:
        place = values[0].index(row["point"][keys[0]]), values[1].index(row["point"][keys[1]])
        heights[place] = np.nan if row[metric] is None else row[metric]
    image = axes.imshow(heights, cmap="viridis")
    middle = (np.nanmin(heights) + np.nanmax(heights)) / 2 if np.isfinite(heights).any() else 0.0
    for (line, column), height in np.ndenumerate(heights):
        text, colour = ("failed", "firebrick") if np.isnan(height) else (f"{height:.3f}", "white")
        axes.text(column, line, text, ha="center", va="center", color="black" if height > middle else colour)
    axes.set_yticks(range(len(values[0])), values[0])
    axes.set_xticks(range(len(values[1])), values[1])
    axes.set(ylabel=keys[0], xlabel=keys[1])
    figure.colorbar(image, label=metric)


def _bars(axes: Any, rows: Sequence[Row], metric: str) -> None:
    def label(point: dict[str, str]) -> str:
        return ", ".join(f"{key.rpartition('.')[2]}={_short(value)}" for key, value in point.items())

    axes.barh(range(len(rows)), [row[metric] or 0.0 for row in rows])
    for place, row in enumerate(rows):
        text = row["state"] if row[metric] is None else f"{row[metric]:.3f}"
        axes.text((row[metric] or 0.0) + 0.01, place, text, va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [label(row["point"]) for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.set(xlabel=metric, xlim=(0, 1.1))


def _row(point: Point, job: Job) -> Row:
    result = job["result"] or {}
    metrics = result.get("metrics", {})
    error = job["error"] or {}
    return {
        "point": point.values,
        "ap50": metrics.get("ap50"),
        "ap": metrics.get("ap"),
        "f1": metrics.get("f1"),
        "parameters": result.get("parameters"),
        "seconds": result.get("training_seconds"),
        "state": job["state"],
        "error": error.get("message"),
        "job": job["id"],
        "run_id": result.get("run_id"),
    }


def _ordered(values: set[str]) -> list[str]:
    """Numbers by size, anything else by name."""
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def _short(value: str) -> str:
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def _text(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
