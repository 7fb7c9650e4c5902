"""What building histograms costs: events a second, against the plain way in NumPy and in PyTorch."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from shared.cli.console import ExitCode, err, fail, out, print_json
from shared.data.events.cli.options import parse_size
from shared.vision.events import Events

Build = Callable[[Events, tuple[int, int]], NDArray[np.uint8]]
_BINS, _CUTOFF, _WINDOW_US = 10, 10, 50_000
_DISTINCT = 4  # windows that differ; more events come from using them again


@dataclass(frozen=True)
class HistogramComparison:
    """Rates in million events per second, medians over the repeats; ratios are medians of pairs.

    total: events counted per repeat. equal: every window gave the same bytes in all ways.
    """

    total: int
    window_events: int
    ours: float
    add_at: float
    index_put: float | None
    over_add_at: float
    over_index_put: float | None
    equal: bool


def plain_add_at(events: Events, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The formula of the events spec, section 7, with `np.add.at` over four index arrays."""
    span = max(int(events.t[-1] - events.t[0]), 1)
    bins = np.minimum(_BINS * (events.t - events.t[0]) // span, _BINS - 1)
    counts = np.zeros((2, _BINS, *size), np.int32)
    np.add.at(counts, (events.p, bins, events.y, events.x), 1)
    return np.minimum(counts, _CUTOFF).astype(np.uint8).reshape(2 * _BINS, *size)


def plain_index_put(events: Events, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The same with PyTorch's `index_put_(accumulate=True)`, which takes 64-bit indices."""
    import torch

    t = torch.from_numpy(events.t)
    p, x, y = (torch.from_numpy(column.astype(np.int64)) for column in (events.p, events.x, events.y))
    span = max(int(t[-1] - t[0]), 1)
    bins = torch.clamp(torch.floor((t - t[0]) / span * _BINS), max=_BINS - 1).long()
    counts = torch.zeros((2, _BINS, *size), dtype=torch.int32)
    counts.index_put_((p, bins, y, x), torch.ones(1, dtype=torch.int32), accumulate=True)
    built: NDArray[np.uint8] = counts.clamp(max=_CUTOFF).to(torch.uint8).numpy().reshape(2 * _BINS, *size)
    return built


def compare(
    total: int, *, window_events: int, size: tuple[int, int], repeats: int, with_torch: bool
) -> HistogramComparison:
    """Count `total` events in windows, each way turn about, on one core.

    Events lie in clusters as edges give them, one in eight anywhere. The last window has the rest. One round
    that is not counted comes first.
    """
    from shared.vision.histogram import stacked_histogram  # loads OpenCV, which `--help` does not need

    buffer = np.zeros((2 * _BINS, *size), np.uint8)
    ways: dict[str, Build] = {
        "ours": lambda events, size: stacked_histogram(events, size, bins=_BINS, cutoff=_CUTOFF, out=buffer),
        "add_at": plain_add_at,
    }
    if with_torch:
        ways["index_put"] = plain_index_put
    rng = np.random.default_rng(0)
    distinct = [_window(min(window_events, total), size, rng) for _ in range(_DISTINCT)]
    equal = all(len({build(events, size).tobytes() for build in ways.values()}) == 1 for events in distinct)
    count = max(1, round(total / len(distinct[0])))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats):
        for name in sorted(ways, reverse=bool(repeat % 2)):
            started = time.perf_counter()
            for number in range(count):
                ways[name](distinct[number % _DISTINCT], size)
            rates[name].append(count * len(distinct[0]) / (time.perf_counter() - started) / 1e6)
    return HistogramComparison(
        count * len(distinct[0]),
        len(distinct[0]),
        statistics.median(rates["ours"]),
        statistics.median(rates["add_at"]),
        statistics.median(rates["index_put"]) if with_torch else None,
        _ratio(rates, "add_at"),
        _ratio(rates, "index_put") if with_torch else None,
        equal,
    )


def histogram(
    events: Annotated[
        str, typer.Option(help="Events to count, several runs separated by commas.")
    ] = "1e6,1e7,1e8",
    window_events: Annotated[
        int, typer.Option(min=1, help="Events per window of 50 ms: 500000 is 10 million a second.")
    ] = 500_000,
    size: Annotated[str, typer.Option(help="Sensor: height x width.")] = "720x1280",
    repeats: Annotated[int, typer.Option(min=1, help="Rounds, each way turn about.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare the building of event histograms with np.add.at and with torch's index_put_, on one core."""
    import importlib.util

    import cv2

    pixels = parse_size(size)
    assert pixels is not None  # only None gives None
    try:
        totals = [int(float(text)) for text in events.split(",")]
    except ValueError:
        fail(f"--events {events!r} is not like 1e6,1e7", code=ExitCode.USAGE)
    if min(totals) < 1:
        fail("--events must be above zero", code=ExitCode.USAGE)
    with_torch = importlib.util.find_spec("torch") is not None
    cv2.setNumThreads(1)
    if with_torch:
        import torch

        torch.set_num_threads(1)
    err.print(f"{repeats} rounds each, turn about, one core", highlight=False)
    results = [
        compare(total, window_events=window_events, size=pixels, repeats=repeats, with_torch=with_torch)
        for total in totals
    ]
    if as_json:
        print_json({"size": list(pixels), "repeats": repeats, "runs": [asdict(result) for result in results]})
        return
    from rich.table import Table

    table = Table(title=f"Stacked histograms, {pixels[0]} x {pixels[1]}, million events a second")
    for heading in (
        "events",
        "per window",
        "ours",
        "np.add.at",
        "index_put_",
        "÷ add.at",
        "÷ index_put_",
        "equal",
    ):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            f"{result.total:,}",
            f"{result.window_events:,}",
            f"{result.ours:.1f}",
            f"{result.add_at:.1f}",
            f"{result.index_put:.1f}" if result.index_put is not None else "no torch",
            f"{result.over_add_at:.1f} ×",
            f"{result.over_index_put:.1f} ×" if result.over_index_put is not None else "",
            "yes" if result.equal else "NO",
        )
    out.print(table)
    if not all(result.equal for result in results):
        fail("the ways do not agree")


def _ratio(rates: dict[str, list[float]], other: str) -> float:
    return statistics.median(ours / theirs for ours, theirs in zip(rates["ours"], rates[other], strict=True))


def _window(number: int, size: tuple[int, int], rng: np.random.Generator) -> Events:
    height, width = size
    centres = rng.uniform(0.1, 0.9, (24, 2)) * size
    which = rng.integers(0, len(centres), number)
    spread = rng.normal(0, [height / 40, width / 40], (number, 2))
    anywhere = rng.random(number) < 0.125
    places = np.where(anywhere[:, None], rng.random((number, 2)) * size, centres[which] + spread)
    y, x = np.clip(places, 0, [height - 1, width - 1]).astype(np.uint16).T
    t = np.sort(rng.integers(0, _WINDOW_US + 1, number))
    return Events(
        t.astype(np.int64),
        np.ascontiguousarray(x),
        np.ascontiguousarray(y),
        rng.integers(0, 2, number).astype(np.uint8),
    )
