"""`sightline sweep`: many runs through the job queue, one table and one plot at the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

if TYPE_CHECKING:
    from shared.core.settings import CommonSettings
    from training.sweep.numbers import Compared
    from training.sweep.points import Point, Sweep
    from training.sweep.queue import Job, OnChange
    from training.sweep.search import Axis


DEFAULT_RECIPE = "recommended"


def sweep(
    family: Annotated[str, typer.Argument(help="Model family, such as `person`.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[GRID] [KEY=VALUE]…",
            help="A grid that the family comes with, and settings that hold for every run.",
        ),
    ] = None,
    grid: Annotated[
        list[str] | None, typer.Option(metavar="KEY=A,B,…", help="Values to combine; may be repeated.")
    ] = None,
    search: Annotated[
        Literal["optuna"] | None, typer.Option(help="Search the --space instead of running a grid.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=log:LOW:HIGH", help="Searched range: log, float or int, or choices a,b,c."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of a search, in all.")] = 20,
    parallel: Annotated[int, typer.Option(min=1, help="Trials of a search at a time.")] = 2,
    metric: Annotated[
        str | None,
        typer.Option(
            help="What ranks runs; higher wins. Detection: ap, ap50, f1; in streams: ap, ap50, ap_small, "
            "ap_medium, ap_large, recall_at_rest; classification: macro_f1, map, micro_f1, rare_recall, "
            "rare_f1 (of the rarest class).  [default: ap or macro_f1]"
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="Recipe of the family to start from.  [default: the grid's own, or recommended]"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the sweep, which groups its jobs.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of a search.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the points and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Run a grid (`sightline sweep person grid_size data.path=cctv`) or a search, and compare.

    The runs are jobs; Ctrl-C leaves them running, and the same command again picks them up where they are.
    """
    from shared.config import ConfigError
    from shared.core.settings import CommonSettings
    from training.sweep import points as sweep_points
    from training.sweep.search import parse_axis

    names = [word for word in words or [] if "=" not in word]
    fixed = [word for word in words or [] if "=" in word]
    try:
        if search:
            if names or grid or not space:
                fail("a search takes --space KEY=log:LOW:HIGH and no grid", code=ExitCode.USAGE)
            recipe = recipe or DEFAULT_RECIPE
            axes = [parse_axis(text) for text in space]
            points = [sweep_points.make_point(values, fixed) for values in _examples(axes)]  # to be checked
            label = name or sweep_points.default_name(f"{family}-search", [recipe, fixed, space])
        else:
            if space:
                fail("--space belongs to a search; add --search optuna", code=ExitCode.USAGE)
            axes = []
            recipe, points, label = _grid(family, recipe, names, grid or [], fixed, name)
        described = sweep_points.Sweep(label, family, recipe)
        sweep_points.check_points(described, points)
        compared, ranked_by = _compared(family, metric)
    except ConfigError as error:
        fail(str(error), hint=f"grids of {family}: {_grids(family)}", code=ExitCode.USAGE)
    if dry_run:
        _list_points(described, points, axes, as_json=as_json)
        return
    settings = CommonSettings()
    with _interruptible(described):
        results = _run(described, points, axes, fixed, settings, trials, parallel, compared, ranked_by, seed)
    _report(described, results, settings, compared, ranked_by, as_json=as_json)


def _compared(family: str, metric: str | None) -> "tuple[Compared, str]":
    """What the family's task is compared by, and the number that ranks. Raises ConfigError."""
    from shared.config import ConfigError, unknown
    from shared.families.registry import family_task
    from training.sweep.numbers import COMPARED

    compared = COMPARED[family_task(family)]
    if metric is not None and metric not in compared.names():
        raise ConfigError(unknown(f"metric of {family!r}", metric, compared.names()))
    return compared, metric or compared.default


def _grid(
    family: str, recipe: str | None, names: list[str], axes: list[str], fixed: list[str], name: str | None
) -> "tuple[str, list[Point], str]":
    """The recipe to start from, the points, and what the sweep is called."""
    from training.sweep.points import default_name, grid_points, load_named_grid, parse_axis

    values: dict[str, list[str]] = {}
    variants: dict[str, dict[str, list[str]]] = {}
    common: list[str] = []
    for grid_name in names:
        named = load_named_grid(family, grid_name)
        values |= named.values
        variants |= named.variants
        common += named.overrides
        recipe = recipe or named.recipe
    values |= dict(parse_axis(text) for text in axes)
    if not values:
        fail(
            "nothing to sweep: name a grid or give --grid",
            hint=f"grids: {_grids(family)}",
            code=ExitCode.USAGE,
        )
    recipe = recipe or DEFAULT_RECIPE
    label = name or default_name("-".join([family, *names]), [recipe, fixed, values])
    return recipe, grid_points(values, [*common, *fixed], variants), label


def _run(
    described: "Sweep",
    points: "list[Point]",
    axes: "list[Axis]",
    fixed: list[str],
    settings: "CommonSettings",
    trials: int,
    parallel: int,
    compared: "Compared",
    metric: str,
    seed: int,
) -> "list[tuple[Point, Job]]":
    from shared.cli.client import api_client
    from training.sweep.queue import SweepQueue
    from training.sweep.search import search

    assert settings.runs_root is not None
    with api_client(settings, settings.jobs_url) as client, _shown() as on_change:
        queue = SweepQueue(client, described)
        if not axes:
            return queue.run(points, on_change)
        return search(
            queue,
            axes,
            fixed,
            name=described.name,
            folder=settings.runs_root / "sweeps" / described.name,
            trials=trials,
            parallel=parallel,
            metric=metric,
            compared=compared,
            seed=seed,
            on_change=on_change,
        )


@contextmanager
def _shown() -> "Iterator[OnChange]":
    """Yield a function that shows each run's progress as a bar on stderr."""
    from rich.progress import BarColumn, Progress, TaskID, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")
    with Progress(*columns, console=err) as progress:
        bars: dict[str, TaskID] = {}

        def on_change(point: "Point", job: "Job") -> None:
            if job["id"] not in bars:
                text = " ".join(f"{key}={value}" for key, value in point.values.items())
                bars[job["id"]] = progress.add_task(text, total=1.0, state=job["state"])
            done = 1.0 if job["state"] == "succeeded" else job["progress"] or 0.0
            progress.update(bars[job["id"]], completed=done, state=job["state"])

        yield on_change


@contextmanager
def _interruptible(described: "Sweep") -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        fail(
            f"stopped waiting for sweep {described.name}; its jobs go on",
            hint="the same command again waits for them; `sightline jobs list` shows them, "
            "`sightline jobs cancel JOB` ends one",
            code=ExitCode.CANCELLED,
        )


def _report(
    described: "Sweep",
    results: "list[tuple[Point, Job]]",
    settings: "CommonSettings",
    compared: "Compared",
    metric: str,
    *,
    as_json: bool,
) -> None:
    from training.sweep.report import make_rows, over_seeds, seeds_table, table, write_report

    assert settings.runs_root is not None
    rows = make_rows(results, compared, metric)
    title = f"{described.name} ({described.recipe})"
    paths = write_report(settings.runs_root / "sweeps" / described.name, rows, compared, title, metric)
    summaries = over_seeds(rows, compared, metric)
    failed = sum(row["state"] != "succeeded" for row in rows)
    if as_json:
        files = {kind: str(path) for kind, path in paths.items()}
        print_json({"name": described.name, "rows": rows, "over_seeds": summaries, "files": files})
    else:
        out.print(table(rows, compared, title))
        if summaries:
            out.print(seeds_table(summaries, rows, compared))
        out.print(f"plot: {paths['png']}", soft_wrap=True, highlight=False)
    if failed:
        err.print(f"{failed} of {len(rows)} runs did not succeed; `sightline jobs retry JOB` tries one again")
        raise typer.Exit(ExitCode.FAILURE)


def _list_points(described: "Sweep", points: "list[Point]", axes: "list[Axis]", *, as_json: bool) -> None:
    searched = [{axis.key: axis.described()} for axis in axes]
    lines = searched or [point.values for point in points]
    if as_json:
        print_json({"name": described.name, "searched": bool(axes), "points": lines})
        return
    out.print(f"{described.name}: {len(lines)} {'searched settings' if axes else 'runs'}", highlight=False)
    for line in lines:
        out.print("  " + " ".join(f"{key}={value}" for key, value in line.items()), highlight=False)


def _examples(axes: "list[Axis]") -> list[dict[str, str]]:
    """Combinations in which every axis shows each of its examples once at least."""
    examples = {axis.key: axis.examples() for axis in axes}
    count = max(map(len, examples.values()))
    return [{key: shown[n % len(shown)] for key, shown in examples.items()} for n in range(count)]


def _grids(family: str) -> str:
    from shared.families.registry import family_names
    from training.sweep.points import named_grids

    return ", ".join(named_grids(family)) if family in family_names() else "none"
