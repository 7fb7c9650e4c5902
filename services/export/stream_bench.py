"""`sightline bench stream-runtimes`."""

import importlib.util
import statistics
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared.cli.console import fail, out, print_json

if TYPE_CHECKING:
    from services.export.stream_runtimes import RuntimeComparison


class Size(StrEnum):
    tiny = "tiny"
    small = "small"
    base = "base"


def stream_runtimes(
    sizes: Annotated[
        list[Size] | None, typer.Option("--size", help="Size of RVT, repeatable. Default: tiny and base.")
    ] = None,
    sensor: Annotated[
        Literal["gen1", "gen4", "etram"], typer.Option(help="gen4 and etram are 360 x 640, padded to 384.")
    ] = "gen4",
    threads: Annotated[int, typer.Option(min=1, max=64, help="Threads of each runtime.")] = 2,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of each runtime, turn about.")] = 10,
    round_windows: Annotated[int, typer.Option(min=1, help="Windows per round, states carried on.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare ONNX Runtime with PyTorch per window of an event stream: latency, and drift of carried state.

    The networks have random weights, and windows are sparse random counts.
    """
    if importlib.util.find_spec("torch") is None:
        fail("this compares with PyTorch, which is not installed", hint="install the `worker` extra")
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from services.export.stream_runtimes import compare_runtimes
    from shared.cli.console import err
    from shared.families.events.config import EventsConfig

    results = []
    columns = (TextColumn("{task.description:18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        for size in sizes or [Size.tiny, Size.base]:
            row = progress.add_task(size.value, total=rounds)
            results.append(
                compare_runtimes(
                    EventsConfig(size=size.value, sensor=sensor),
                    threads=threads,
                    rounds=rounds,
                    round_windows=round_windows,
                    on_step=lambda what, done, total, row=row: progress.update(  # type: ignore[misc]
                        row, description=what, completed=done, total=total
                    ),
                )
            )
    if as_json:
        print_json({"sensor": sensor, "runtimes": [asdict(result) for result in results]})
    else:
        _show(results)


def _show(results: list["RuntimeComparison"]) -> None:
    from rich.table import Table

    first = results[0]
    height, width = first.padded_size
    table = Table(title=f"a window of {height} x {width}, {first.threads} threads: medians over rounds")
    for heading in ("RVT", "PyTorch ms", "ONNX Runtime ms", "ratio", "of processor time"):
        table.add_column(heading, justify="left" if heading == "RVT" else "right")
    for result in results:
        columns = (_spread(result.torch_ms), _spread(result.onnx_ms))
        table.add_row(result.size, *columns, f"{result.ratio:.3f}", f"{result.cpu_ratio:.3f}")
    out.print(table)
    table = Table(title="largest difference, each carrying its own state")
    for heading in ("RVT", "after", "boxes px", "probabilities", "states"):
        table.add_column(heading, justify="left" if heading in ("RVT", "after") else "right")
    for result in results:
        for when, found in result.agreement.items():
            numbers = (found.boxes_px, found.probabilities, found.states)
            table.add_row(result.size, when, *(f"{number:.2g}" for number in numbers))
    out.print(table)


def _spread(per_round: list[float]) -> str:
    return f"{statistics.median(per_round):.1f} ({min(per_round):.1f} to {max(per_round):.1f})"
