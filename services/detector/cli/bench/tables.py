"""Benchmark results for people: tables, and a plot."""

from pathlib import Path
from typing import Any

from rich.table import Table

from shared.core.files import atomic_path


def serving_tables(report: dict[str, Any]) -> list[Table]:
    """Return the comparison with the bare loop and the figures per concurrency."""
    compared = Table(title=f"{report['model']} version {report['version']}: serving against a bare loop")
    for heading in ("", "bare loop", "detector", "result"):
        compared.add_column(heading, justify="left" if not heading else "right")
    cpu, latency = report["cpu_ms_per_image"], report["latency_ms"]
    compared.add_row(
        "CPU per image, concurrency 16",
        f"{cpu['bare']['median']:.2f} ms",
        f"{cpu['server']['median']:.2f} ms",
        f"ratio {_with_spread(report['cpu_ratio'], '.3f')}",
    )
    compared.add_row(
        "median latency, one at a time",
        f"{latency['bare']['median']:.2f} ms",
        f"{latency['server']['median']:.2f} ms",
        f"added {_with_spread(report['added_latency_ms'], '.2f')} ms",
    )
    compared.add_row("ready after start", "", f"{_with_spread(report['ready_s'], '.2f')} s", "")
    compared.add_row("memory after load", "", f"{report['server_rss_mib']:.0f} MiB", "")
    loads = Table(title="detector under load")
    for heading in ("concurrency", "images/s", "p50 ms", "p95 ms", "p99 ms"):
        loads.add_column(heading, justify="right")
    for concurrency, figures in report["concurrency"].items():
        loads.add_row(
            concurrency,
            f"{figures['images_per_s']['median']:.1f}",
            *(f"{figures[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
        )
    return [compared, loads]


def precision_table(report: dict[str, Any]) -> Table:
    """Return one row per version."""
    table = Table(title=f"{report['model']}: versions side by side")
    headings = ("version", "precision", "file", "AP", "AP50", "latency", "images/s", "CPU/image", "speed-up")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in report["versions"]:
        table.add_row(
            str(row["version"]),
            row["precision"],
            f"{row['file_bytes'] / 1e6:.2f} MB",
            *("–" if row[name] is None else f"{row[name]:.4f}" for name in ("ap", "ap50")),
            f"{row['latency_ms']:.1f} ms",
            f"{row['images_per_s']:.1f}",
            f"{row['cpu_ms_per_image']:.1f} ms",
            f"{row['speedup']:.2f}×",
        )
    return table


def plot_serving(report: dict[str, Any], path: Path) -> None:
    """Draw throughput and latency over concurrency into a PNG. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    concurrencies = [int(name) for name in report["concurrency"]]
    figures = list(report["concurrency"].values())
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    throughput.plot(concurrencies, [one["images_per_s"]["median"] for one in figures], "o-", label="detector")
    throughput.axhline(report["bare_images_per_s"]["median"], linestyle="--", color="grey", label="bare loop")
    throughput.set(xlabel="concurrent requests", ylabel="images per second", ylim=(0, None))
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        latency.plot(concurrencies, [one[name] for one in figures], "o-", label=name.removesuffix("_ms"))
    latency.set(xlabel="concurrent requests", ylabel="latency in ms", ylim=(0, None))
    for axes in (throughput, latency):
        axes.set_xticks(concurrencies)
        axes.grid(alpha=0.3)
        axes.legend()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _with_spread(figures: dict[str, float], form: str) -> str:
    return f"{figures['median']:{form}} ({figures['min']:{form}} to {figures['max']:{form}})"
