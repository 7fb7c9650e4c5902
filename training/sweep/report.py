"""What a sweep came to: a table, the same over seeds, one plot, and all of it as files."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from shared.core.files import atomic_path, write_atomic
from training.sweep.numbers import Compared, numbers_of, of_each_class, rarest_class
from training.sweep.points import Point
from training.sweep.queue import Job

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

Row = dict[str, Any]

_COSTS = {"parameters": "params", "seconds": "seconds"}
_FORMS = {"parameters": ",.0f", "seconds": ".0f"}  # of everything else: three decimals
SEED = "seed"


def make_rows(results: Sequence[tuple[Point, Job]], compared: Compared, metric: str) -> list[Row]:
    """Return one row per point, the best by `metric` first; those that did not succeed come last."""
    rows = [_row(point, job, compared) for point, job in results]
    return sorted(rows, key=lambda row: (row[metric] is None, -(row[metric] or 0.0)))


def over_seeds(rows: Sequence[Row], compared: Compared, metric: str) -> list[Row]:
    """Return one row per setting of a grid with several seeds, the best mean of `metric` first; else none.

    Each has the setting's `point` without the seed, `runs` that succeeded of `seeds` in all, and for every
    number {mean, min, max} over those runs, None where no run has it.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in rows:
        setting = tuple((key, value) for key, value in row["point"].items() if key != SEED)
        groups.setdefault(setting, []).append(row)
    if not groups or () in groups or SEED not in rows[0]["point"]:
        return []
    summaries = []
    for setting, members in groups.items():
        summary: Row = {
            "point": dict(setting),
            "seeds": len(members),
            "runs": sum(row["state"] == "succeeded" for row in members),
        }
        for name in [*compared.names(), *_of_each(rows), *_COSTS]:
            values = [value for row in members if (value := _number(row, name)) is not None]
            summary[name] = (
                {"mean": sum(values) / len(values), "min": min(values), "max": max(values)}
                if values
                else None
            )
        summaries.append(summary)
    return sorted(summaries, key=lambda row: (row[metric] is None, -(row[metric] or {"mean": 0.0})["mean"]))


def table(rows: Sequence[Row], compared: Compared, title: str) -> "Table":
    """Return the rows for a terminal."""
    from rich.table import Table

    keys = list(rows[0]["point"])
    headings = _headings(rows, compared)
    shown = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for key in keys:
        shown.add_column(key, justify="right")
    for heading in headings.values():
        shown.add_column(heading, justify="right")
    shown.add_column("state")
    for row in rows:
        numbers = [_text(_number(row, name), _FORMS.get(name, ".3f")) for name in headings]
        state = row["state"] + (f": {row['error'].splitlines()[0][:80]}" if row["error"] else "")
        shown.add_row(*(row["point"][key] for key in keys), *numbers, state)
    return shown


def seeds_table(summaries: Sequence[Row], rows: Sequence[Row], compared: Compared) -> "Table":
    """Return what `over_seeds` gave for a terminal: the mean, and the lowest and highest in brackets."""
    from rich.table import Table

    headings = _headings(rows, compared)
    shown = Table(
        title="over seeds: mean (lowest to highest)", box=None, pad_edge=False, title_justify="left"
    )
    for heading in (*summaries[0]["point"], *headings.values(), "runs"):
        shown.add_column(heading, justify="right")
    for summary in summaries:
        numbers = [_range_text(summary[name], _FORMS.get(name, ".3f")) for name in headings]
        shown.add_row(*summary["point"].values(), *numbers, f"{summary['runs']} of {summary['seeds']}")
    return shown


def write_report(
    folder: Path, rows: Sequence[Row], compared: Compared, title: str, metric: str
) -> dict[str, Path]:
    """Write sweep.csv, sweep.json and sweep.png into `folder`; return their paths by suffix.

    With several seeds seeds.json holds what `over_seeds` says.
    """
    paths = {suffix: folder / f"sweep.{suffix}" for suffix in ("csv", "json", "png")}
    text = io.StringIO()
    keys, names = list(rows[0]["point"]), [*compared.names(), *_COSTS]
    of_each = _of_each(rows)
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*keys, *names, *of_each, "state", "job", "error"])
    for row in rows:
        writer.writerow(
            [
                *(row["point"][key] for key in keys),
                *(row[name] for name in names),
                *(row["of_each"].get(heading) for heading in of_each),
                row["state"],
                row["job"],
                row["error"],
            ]
        )
    if summaries := over_seeds(rows, compared, metric):
        paths["seeds"] = folder / "seeds.json"
        write_atomic(paths["seeds"], orjson.dumps(summaries, option=orjson.OPT_INDENT_2))
    write_atomic(paths["csv"], text.getvalue())
    write_atomic(paths["json"], orjson.dumps(list(rows), option=orjson.OPT_INDENT_2))
    with atomic_path(paths["png"]) as temporary:
        plot(rows, compared, title, metric).savefig(temporary, dpi=120)
    return paths


def plot(rows: Sequence[Row], compared: Compared, title: str, metric: str) -> "Figure":
    """Return one picture: points for one swept key, also over seeds, a heat map for two, or bars."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    keys = list(rows[0]["point"])
    axis_values = [_ordered({row["point"][key] for row in rows}) for key in keys]
    full_grid = len(keys) == 2 and len(rows) == len(axis_values[0]) * len(axis_values[1])
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    settings = [key for key in keys if key != SEED]
    if len(keys) == 1:
        _points(axes, rows, keys[0], axis_values[0], compared)
    elif len(settings) == 1 and len(keys) == 2:
        _points_over_seeds(axes, rows, settings[0], compared)
    elif full_grid:
        _heat_map(figure, axes, rows, keys, axis_values, metric)
    else:
        _bars(axes, rows, metric)
    axes.set_title(title)
    return figure


def _points(axes: Any, rows: Sequence[Row], key: str, values: list[str], compared: Compared) -> None:
    by_value = {row["point"][key]: row for row in rows}
    drawn = list(compared.headings.items())[:2]
    for name, label in drawn:
        heights = [by_value[value][name] for value in values]
        there = [(place, height) for place, height in enumerate(heights) if height is not None]
        axes.plot([place for place, _ in there], [height for _, height in there], "o-", label=label)
    for place, value in enumerate(values):
        if by_value[value][drawn[0][0]] is None:
            axes.text(place, 0.02, by_value[value]["state"], rotation=90, ha="center", color="firebrick")
    axes.set_xticks(range(len(values)), values)
    axes.set(xlabel=key, ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()


def _points_over_seeds(axes: Any, rows: Sequence[Row], key: str, compared: Compared) -> None:
    """One column per value and number: a dot for each seed, a line at their mean."""
    headings = {name: text for name, text in _headings(rows, compared).items() if name not in _COSTS}
    values = _ordered({row["point"][key] for row in rows})
    width = 0.8 / len(headings)
    for column, (name, heading) in enumerate(headings.items()):
        colour = f"C{column}"
        for place, value in enumerate(values):
            of_value = [_number(row, name) for row in rows if row["point"][key] == value]
            there = [number for number in of_value if number is not None]
            x = place + (column - (len(headings) - 1) / 2) * width
            axes.plot([x] * len(there), there, "o", color=colour, alpha=0.6, markersize=5)
            if there:
                axes.hlines(sum(there) / len(there), x - width / 3, x + width / 3, color=colour, linewidth=2)
        axes.plot([], [], "o", color=colour, label=heading)
    long = max(map(len, values)) > 60 // len(values)  # side by side they would run into each other
    axes.set_xticks(range(len(values)), values, rotation=20 if long else 0, ha="right" if long else "center")
    axes.set(xlabel=f"{key} (a dot for each seed, a line at the mean)", ylim=(0, 1.02))
    axes.grid(alpha=0.3, axis="y")
    axes.figure.legend(loc="outside lower center", ncols=3, fontsize=8)


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


def _headings(rows: Sequence[Row], compared: Compared) -> dict[str, str]:
    """Column headings by number, the rarest class by its name, or every class where none is picked out."""
    rarest = next((row["rarest"] for row in rows if row["rarest"] is not None), None)
    named = {f"rare_{name}": f"{text} of {rarest} (rarest)" for name, text in compared.of_rarest.items()}
    of_each = {} if named else {heading: heading for heading in _of_each(rows)}
    return {**compared.headings, **named, **of_each, **_COSTS}


def _of_each(rows: Sequence[Row]) -> list[str]:
    """The columns of numbers that every class has one of."""
    return list(dict.fromkeys(heading for row in rows for heading in row["of_each"]))


def _number(row: Row, name: str) -> float | None:
    """A number of the run as a whole, or of a class."""
    value: float | None = row[name] if name in row else row["of_each"].get(name)
    return value


def _row(point: Point, job: Job, compared: Compared) -> Row:
    result = job["result"] or {}
    per_class = result.get("per_class", {})
    error = job["error"] or {}
    return {
        "point": point.values,
        **numbers_of(result, compared),
        "of_each": of_each_class(per_class, compared),
        "rarest": rarest_class(per_class, compared),
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


def _range_text(values: dict[str, float] | None, form: str) -> str:
    if values is None:
        return "–"
    mean, low, high = (format(values[name], form) for name in ("mean", "min", "max"))
    return mean if low == high else f"{mean} ({low}–{high})"
