"""`sightline data preprocess`: recordings of event cameras in, frames and labels for training out."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli.console import ExitCode, err, fail, print_json
from shared.data.cli.options import JsonOption, progress_bar
from shared.data.events.cli.options import (
    ClassesOption,
    SensorOption,
    WorkersOption,
    chosen_classes,
    existing,
    parse_size,
)

if TYPE_CHECKING:
    from shared.data.events.classes import ClassList
    from shared.data.events.label_rules import LabelRules


def preprocess(
    source: Annotated[Path, typer.Argument(help="Recording, or folder of recordings.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write to.", show_default=False)],
    classes: ClassesOption = None,
    representation: Annotated[
        str, typer.Option(help="stacked_histogram, mixed_density or ternary_volume.")
    ] = "stacked_histogram",
    bins: Annotated[int, typer.Option(min=1, max=32, help="Time bins per window.")] = 10,
    window_ms: Annotated[int, typer.Option(min=1, max=1000, help="Length of a window.")] = 50,
    half: Annotated[bool, typer.Option("--half", help="Half the resolution: odd pixels only.")] = False,
    sensor: SensorOption = None,
    split: Annotated[str | None, typer.Option(help="train, val or test, for files that do not say.")] = None,
    min_side: Annotated[
        float | None, typer.Option(help="Leave out boxes with a shorter side, pixels.")
    ] = None,
    min_diagonal: Annotated[float | None, typer.Option(help="... or with a shorter diagonal.")] = None,
    period_ms: Annotated[
        float | None, typer.Option(help="Time between label frames. Default: 250 for gen1, else about 100.")
    ] = None,
    workers: WorkersOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace sequences of other settings.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; write nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Turn recordings of event cameras into stacked histograms and labels, in the layout of RVT.

    Finds `..._td.dat`, `.raw` and `.h5` with labels in `..._bbox.npy`. A second run goes on where the first
    ended. Exits with 5 where a recording could not be used; the others are done.
    """
    from shared.data.events.layout import SPLITS, find_recordings
    from shared.data.events.preprocess import OutputInUse, plan
    from shared.data.events.preprocess import preprocess as run
    from shared.data.events.repairs import RecordingUnreadable
    from shared.data.events.sequence import PreprocessSettings

    source = existing(source)
    if split is not None and split not in SPLITS:
        fail(f"split {split!r} is none of {', '.join(SPLITS)}", code=ExitCode.USAGE)
    name, chosen = chosen_classes(classes, source)
    if chosen is None:
        fail(f"{source} does not say its classes", hint="give --classes", code=ExitCode.USAGE)
    settings = PreprocessSettings(
        _rules(name, chosen, min_side, min_diagonal, period_ms),
        representation, bins, window_ms, half, parse_size(sensor),
    )  # fmt: skip
    try:
        settings.build()
        recordings = find_recordings(source, split=split, eight_classes=name == "etram8")
        planned = plan(recordings, target, settings, force=force)
    except RecordingUnreadable as error:
        fail(str(error))
    except ValueError as error:
        fail(str(error), hint="give another OUT, or --force", code=ExitCode.USAGE)
    summary: dict[str, Any] = {
        "path": str(target.absolute()),
        "settings": settings.describe(),
        "recordings": len(recordings),
        "without_labels": [found.path.name for found in recordings if found.labels is None],
    }
    if dry_run:
        summary |= {"to_write": [task for task, _, _ in planned.to_write], "kept": list(planned.kept)}
        if json:
            print_json(summary)
        else:
            for task, found, _ in planned.to_write:
                typer.echo(f"would write {task} from {found.path}{'' if found.labels else ' (no labels!)'}")
            typer.echo(f"would write {len(planned.to_write)} of {len(recordings)} recordings to {target}")
        return
    bar = _WindowBar(json, len(planned.to_write))
    try:
        with bar:
            report = run(
                planned, target, settings, workers=workers or os.cpu_count() or 1, on_progress=bar.update
            )
    except OutputInUse as error:
        fail(str(error), hint="wait until it has ended")
    sizes = report.sizes()
    summary |= {"written": report.written, "kept": report.kept, "failed": report.failed}
    if json:
        print_json(summary)
    else:
        _say(report.written, report.kept, target)
    for task, reason in report.failed.items():
        err.print(f"[bold red]not done:[/] {task}: {reason}", soft_wrap=True, highlight=False)
    if len(sizes) > 1:
        fail(
            "the recordings have sensors of different sizes: "
            + ", ".join(f"{count} of {size[0]} x {size[1]}" for size, count in sizes.items()),
            hint="a network takes one size; preprocess them apart, or give --sensor",
            code=ExitCode.REFUSED,
        )
    if report.failed:
        raise typer.Exit(ExitCode.REFUSED)


class _WindowBar:
    """Windows done, over all recordings under way, and recordings done; silent with --json or in a pipe."""

    def __init__(self, quiet: bool, recordings: int) -> None:
        self._progress = progress_bar(quiet)
        self._recordings = recordings
        self._done: set[str] = set()
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> None:
        self._progress.__enter__()
        self._all = self._progress.add_task("recordings", total=self._recordings)

    def __exit__(self, *error: Any) -> None:
        self._progress.__exit__(*error)

    def update(self, name: str, done: int, total: int) -> None:
        task = self._tasks.setdefault(name, None)
        if task is None:
            task = self._tasks[name] = self._progress.add_task(name, total=total)
        self._progress.update(task, completed=done)
        if done == total:
            self._progress.remove_task(task)
            self._progress.advance(self._all)


def _rules(
    name: str,
    classes: "ClassList",
    min_side: float | None,
    min_diagonal: float | None,
    period_ms: float | None,
) -> "LabelRules":
    from shared.data.events.label_rules import LabelRules

    gen1 = name == "gen1"
    return LabelRules(
        classes,
        min_side=min_side if min_side is not None else 10 if gen1 else 5,
        min_diagonal=min_diagonal if min_diagonal is not None else 30 if gen1 else 0,
        period_us=round(period_ms * 1000) if period_ms is not None else 250_000 if gen1 else None,
    )


def _say(written: dict[str, dict[str, Any]], kept: dict[str, dict[str, Any]], target: Path) -> None:
    summaries = [*written.values(), *kept.values()]
    windows, boxes = (sum(summary[key] for summary in summaries) for key in ("windows", "boxes"))
    repairs: dict[str, int] = {}
    for summary in summaries:
        for kind, count in summary["repairs"].items():
            repairs[kind] = repairs.get(kind, 0) + count
    typer.echo(
        f"wrote {len(written)} recordings to {target}, {len(kept)} were done before: {windows:,} windows, "
        f"{boxes:,} boxes"
    )
    for kind, count in repairs.items():
        typer.echo(f"repaired: {kind}: {count:,}")
