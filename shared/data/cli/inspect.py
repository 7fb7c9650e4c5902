"""`sightline data check` and `preview`: count what is there, name every defect, look at it."""

from pathlib import Path
from typing import Annotated

import typer

from shared.cli.console import ExitCode, fail, print_json
from shared.data.cli.options import FormatOption, ImagesOption, JsonOption, PathArgument, found, progress_bar


def check(
    path: PathArgument,
    format: FormatOption = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    json: JsonOption = False,
) -> None:
    """Count what is there and name every defect; nothing is changed. Exits with 5 where there are errors."""
    from shared.data.check import check_dataset
    from shared.data.report_table import show_report

    path = found(path)
    with progress_bar(json) as progress:
        bar = progress.add_task("checking", total=None)
        report = check_dataset(
            path,
            format=format,
            images_dir=images,
            progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        show_report(report)
    if not report.ok:
        raise typer.Exit(ExitCode.REFUSED)


def preview(
    path: PathArgument,
    out: Annotated[Path, typer.Option(help="Picture to write: .jpg or .png.")] = Path("preview.jpg"),
    split: Annotated[str | None, typer.Option(help="train, val, ... Default: the first.")] = None,
    count: Annotated[int, typer.Option(min=1, max=400, help="Pictures in the grid.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the pictures.")] = 0,
    format: FormatOption = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the picture.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a grid of pictures with their boxes; crowd regions are dashed grey."""
    from shared.data.formats import DatasetUnreadable, find_splits, read_detection_set
    from shared.data.preview import write_preview

    path = found(path)
    if out.exists() and not force:
        fail(f"{out} exists", hint="give another --out, or --force to overwrite it", code=ExitCode.USAGE)
    try:
        split = split or next(iter(find_splits(path, format=format)), None)
        dataset = read_detection_set(path, format=format, split=split, images_dir=images)
        shown = write_preview(dataset, out, count=count, seed=seed)
    except DatasetUnreadable as error:
        fail(str(error), hint=f"sightline data check {path}")
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)
    if json:
        print_json({"path": str(out.absolute()), "split": split, "images": shown})
    else:
        typer.echo(f"wrote {len(shown)} pictures to {out}")
