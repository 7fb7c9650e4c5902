"""`sightline import events`: a published RVT checkpoint becomes a run folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

if TYPE_CHECKING:
    from shared.families.events.published import Imported


def events(
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            help="Checkpoint (.ckpt, .pth, .safetensors); keys with `mdl.` or without.",
            show_default=False,
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Option("--out", help="New run folder. Default: events-<name of the file> among the runs."),
    ] = None,
    size: Annotated[
        Literal["tiny", "small", "base"] | None, typer.Option(help="Default: what the tensors show.")
    ] = None,
    sensor: Annotated[
        Literal["gen1", "gen4", "etram"] | None,
        typer.Option(help="Default: gen1 for 2 classes, gen4 for 3, etram for 8."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="etram3, etram8, gen1, gen4, or names in the order of their ids, separated by commas. "
            "Default: the sensor's."
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(help="Preprocessed recordings that an export is judged on; taken from the data root."),
    ] = "events_frames",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what the file is; write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")] = False,
) -> None:
    """Make a run folder of a published RVT checkpoint, to export or to train on from.

    For example: `sightline import events --from rvt-t.ckpt --out var/runs/rvt-t`
    """
    from shared.config import ConfigError
    from shared.core.settings import CommonSettings

    runs_root = CommonSettings().runs_root
    assert runs_root is not None  # filled in from var_dir
    folder = (target or runs_root / f"events-{source.stem}").absolute()
    if folder.exists():
        fail(f"{folder} exists; it stays as it is", hint="give another --out", code=ExitCode.USAGE)
    imported = _read(source, size, sensor, classes)
    if not dry_run:
        from shared.families.events.published import write_run

        try:
            write_run(folder, imported, data)
        except ConfigError as error:
            fail(str(error), code=ExitCode.USAGE)
        except OSError as error:
            fail(f"{folder} cannot be written: {error}", hint="nothing of it was kept; give another --out")
    summary = imported.summary() | {"path": str(folder), "written": not dry_run}
    if as_json:
        print_json(summary)
    else:
        _show(summary, imported.report.lines())


def _read(source: Path, size: str | None, sensor: str | None, classes: str | None) -> "Imported":
    """Return the checkpoint in its network; leave the command where it does not fit or is not there."""
    from shared.data.events.classes import class_list

    try:
        names = class_list(classes).names if classes is not None else None
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)
    with err.status("loading PyTorch"):
        from shared.families.events.published import read_published
        from shared.models.weights import WeightsError
    try:
        return read_published(source, size=size, sensor=sensor, class_names=names)
    except FileNotFoundError as error:
        fail(str(error), code=ExitCode.NOT_FOUND)
    except WeightsError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{source} cannot be read: {error}")
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)


def _show(summary: dict[str, Any], report: list[str]) -> None:
    histograms = summary["histograms"]
    out.print(
        f"RVT-{summary['size'][0].upper()} with {summary['parameters']:,} parameters, sensor "
        f"{summary['sensor']} (histograms of {histograms['height']} x {histograms['width']}"
        f"{', halved' if histograms['halved'] else ''}), classes: {', '.join(summary['classes'])}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for line in report:
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    wrote = "wrote" if summary["written"] else "would write"
    out.print(f"{wrote} {summary['path']}", highlight=False, markup=False, soft_wrap=True)
