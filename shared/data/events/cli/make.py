"""`sightline data make events`: a set of simulated recordings."""

import os
from pathlib import Path
from typing import Annotated

import typer

from shared.cli.console import ExitCode, fail, print_json
from shared.data.cli.options import JsonOption, check_target, progress_bar, vacated
from shared.data.events.cli.options import WorkersOption, parse_size, set_document


def events(
    target: Annotated[
        Path | None, typer.Option("--out", help="New folder. Default: events in the data root.")
    ] = None,
    train: Annotated[int, typer.Option(min=0, help="Recordings for training.")] = 24,
    val: Annotated[int, typer.Option(min=0, help="Recordings for validation.")] = 4,
    test: Annotated[int, typer.Option(min=0, help="Recordings for the final test.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="Length of each recording.")] = 20.0,
    size: Annotated[str, typer.Option(help="Sensor: height x width in pixels.")] = "120x160",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same recordings.")] = 0,
    workers: WorkersOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier events set in that folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Recordings of a simulated event camera before a street, with boxes, laid out as eTraM's."""
    from shared.core.settings import CommonSettings
    from shared.data.events.simulator.generate import generate_events

    if target is None:
        data_root = CommonSettings().data_root
        assert data_root is not None  # filled in from var_dir
        target = data_root / "events"
    target = target.absolute()
    replaces = check_target(target, force, _is_events_set, "an events set")
    pixels, counts = parse_size(size), {"train": train, "val": val, "test": test}
    assert pixels is not None  # only None gives None
    summary = {
        "path": str(target),
        "recordings": counts,
        "seconds": seconds,
        "size": list(pixels),
        "seed": seed,
        "written": not dry_run,
    }
    if not dry_run:
        with progress_bar(json) as progress, vacated(target, replaces):
            bar = progress.add_task("simulating", total=sum(counts.values()))
            try:
                generate_events(
                    target, count=counts, size=pixels, seconds=seconds, seed=seed,
                    workers=workers or os.cpu_count() or 1, on_recording=lambda: progress.advance(bar),
                )  # fmt: skip
            except ValueError as error:
                fail(str(error), code=ExitCode.USAGE)
    if json:
        print_json(summary)
    else:
        verb = "would write" if dry_run else "wrote"
        typer.echo(
            f"{verb} {sum(counts.values())} recordings of {seconds:g} s at {pixels[0]} x {pixels[1]} "
            f"to {target}"
        )


def _is_events_set(folder: Path) -> bool:
    """Say whether the folder holds only what `make events` writes, so that replacing loses nothing else."""
    from shared.data.events.layout import SPLITS
    from shared.data.events.simulator.generate import DESCRIPTION_FILE

    names = {path.name for path in folder.iterdir()}
    return not names - {DESCRIPTION_FILE, *SPLITS} and set_document(folder) is not None
