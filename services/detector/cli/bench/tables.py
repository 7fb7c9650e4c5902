"""Benchmark results for people: tables, and a plot."""

from pathlib import Path
from typing import Any

from rich.table import Table

from shared.core.files import atomic_path


def serving_tables(report: dict[str, Any]) -> list[Table]:
    """Return one row per side and concurrency, and what is aimed at beside what was reached."""
    what = "without the model's run" if report["without_model"] else f"{report['model']} {report['version']}"
    table = Table(title=f"Serving {what}: {report['threads']} pictures computed at once")
    table.add_column("")
    for heading in (
        "at once", "images/s", "p50 ms", "p95 ms", "p99 ms", "CPU ms/image", "own cost ms", "not answered",
        "ready s", "memory MiB",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    bare = report["bare"]
    table.add_row(
        "bare loop",
        str(report["threads"]),
        f"{bare['images_per_s']['median']:.1f}",
        f"{bare['p50_ms']['median']:.1f}",
        "",
        "",
        f"{bare['cpu_ms']['median']:.2f}",
    )
    table.add_row("bare loop, all cores", "1", "", f"{bare['lone_p50_ms']['median']:.1f}", end_section=True)
    for side in report["sides"].values():
        rows = list(side["concurrency"].items())
        for number, (concurrency, load) in enumerate(rows):
            first = number == 0
            table.add_row(
                side["title"] if first else "",
                concurrency,
                f"{load['images_per_s']['median']:.1f}",
                *(f"{load[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
                f"{load['cpu_ms']['median']:.2f}",
                _with_spread(load["own_cost_ms"], ".2f"),
                str(load["refused"] + load["failed"]),
                f"{side['ready_s']['median']:.1f}" if first else "",
                f"{side['resident_mib']['median']:.0f}" if first else "",
                end_section=number == len(rows) - 1,
            )
    return [table, *([aims_table(report["aims"])] if report["aims"] else [])]


def aims_table(aims: list[dict[str, Any]]) -> Table:
    """Return what is aimed at, what was reached, and whether that is enough."""
    table = Table(title="aims")
    for heading in ("aim", "limit", "measured", ""):
        table.add_column(heading, justify="left" if heading in ("aim", "") else "right")
    for row in aims:
        sign = "≥" if row["least"] else "≤"
        verdict = "[green]met[/]" if row["met"] else "[red]missed[/]"
        table.add_row(row["aim"], f"{sign} {row['limit']:g}", f"{row['value']:g}", verdict)
    return table


def facts_table(title: str, rows: dict[str, str]) -> Table:
    """Return a table of names and values."""
    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def overload_table(report: dict[str, Any]) -> Table:
    """Return what was offered and what became of it."""
    recovery = report["recovery_s"]
    refusals = "none"
    if report["refused"]:
        middle, late = report["refusal_p50_ms"], report["refusal_p95_ms"]
        refusals = f"{report['refused']}, median {middle:.1f} ms, p95 {late:.1f} ms"
    return facts_table(
        f"{report['model']} version {report['version']}: {report['factor']:g} times saturation",
        {
            "one at a time, median": f"{report['lone_p50_ms']:.1f} ms",
            "saturated": f"{report['saturated_per_s']:.1f} images/s",
            "offered": f"{report['offered_per_s']:.1f} requests/s for {report['seconds']:g} s",
            "answered meanwhile": f"{report['answered_per_s']:.1f} images/s",
            "by status": ", ".join(f"{status}: {count}" for status, count in report["statuses"].items()),
            "refusals": refusals,
            "no answer": str(report["failures"]),
            "not sent, no connection free": str(report["unsent"]),
            "resident memory before, at most, after": f"{report['resident_before_mib']:.0f}, "
            f"{report['resident_peak_mib']:.0f}, {report['resident_after_mib']:.0f} MiB",
            "answered as usual again after": "never" if recovery is None else f"{recovery:.2f} s",
        },
    )


def tuning_table(report: dict[str, Any]) -> Table:
    """Return one row per candidate."""
    table = Table(title=f"{report['model']} version {report['version']} on {report['cores']} cores")
    for heading in ("settings", "images/s", "one at a time", "CPU/image", ""):
        table.add_column(heading, justify="left" if heading in ("settings", "") else "right")
    for row in report["candidates"]:
        table.add_row(
            row["described"],
            f"{row['images_per_s']:.1f}",
            f"{row['lone_ms']:.1f} ms",
            f"{row['cpu_ms']:.1f} ms",
            "[green]chosen[/]" if row["chosen"] else "",
        )
    return table


# Columns of quality by their keys; a report has those of its task.
_QUALITY = {
    "ap": "AP",
    "ap50": "AP50",
    "macro_f1": "macro-F1",
    "macro_f1_change": "change",
    "map": "mean AP",
    "gate_agreement": "as the network",
    "agreement": "as the first",
}


def precision_table(report: dict[str, Any]) -> Table:
    """Return one row per version."""
    table = Table(title=f"{report['model']}: versions side by side")
    quality = [name for name in _QUALITY if name in report["versions"][0]]
    headings = ("version", "precision", "file", *(_QUALITY[name] for name in quality))
    for heading in (*headings, "latency", "images/s", "CPU/image", "speed-up"):
        table.add_column(heading, justify="right")
    for row in report["versions"]:
        table.add_row(
            str(row["version"]),
            row["precision"],
            f"{row['file_bytes'] / 1e6:.2f} MB",
            *("–" if row[name] is None else f"{row[name]:.4f}" for name in quality),
            f"{row['latency_ms']:.1f} ms",
            f"{row['images_per_s']:.1f}",
            f"{row['cpu_ms_per_image']:.1f} ms",
            f"{row['speedup']:.2f}×",
        )
    return table


def plot_serving(report: dict[str, Any], path: Path) -> None:
    """Draw throughput, latency and own cost over concurrency into a PNG. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.2), layout="constrained")
    throughput, latency, cost = figure.subplots(1, 3)
    ticks: list[int] = []
    for side in report["sides"].values():
        ticks = [int(name) for name in side["concurrency"]]
        loads = list(side["concurrency"].values())
        rate = [load["images_per_s"]["median"] for load in loads]
        throughput.plot(ticks, rate, "o-", label=side["title"])
        (line,) = latency.plot(ticks, [load["p50_ms"] for load in loads], "o-")
        latency.plot(ticks, [load["p99_ms"] for load in loads], ":", color=line.get_color())
        middle = [load["own_cost_ms"]["median"] for load in loads]
        spread = [
            [value - load["own_cost_ms"]["min"] for value, load in zip(middle, loads, strict=True)],
            [load["own_cost_ms"]["max"] - value for value, load in zip(middle, loads, strict=True)],
        ]
        cost.errorbar(ticks, middle, yerr=spread, fmt="o-", capsize=3, color=line.get_color())
    bare = report["bare"]["images_per_s"]["median"]
    throughput.axhline(bare, linestyle="--", color="grey", label="bare loop")
    cost.axhline(0, linestyle="--", color="grey")
    throughput.set(ylabel="images per second", ylim=(0, None))
    latency.set(ylabel="latency in ms: median, dotted p99", yscale="log")
    # Linear up to 2 ms, where those differ that cost little; beyond it one that costs ten times as much fits.
    cost.set_yscale("symlog", linthresh=2, linscale=2)
    cost.set_yticks([0, 0.5, 1, 1.5, 2, 4, 8, 16], labels=["0", "0.5", "1", "1.5", "2", "4", "8", "16"])
    cost.set(ylabel="own CPU per request over the bare loop, ms")
    for axes in (throughput, latency, cost):
        axes.set(xlabel="requests at once", xscale="log", xticks=ticks)
        axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.grid(alpha=0.3)
    figure.legend(*throughput.get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _with_spread(figures: dict[str, float], form: str) -> str:
    return f"{figures['median']:{form}} ({figures['min']:{form}} to {figures['max']:{form}})"
