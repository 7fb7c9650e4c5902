"""`sightline data check`, `stats` and `preview`: name every defect, count what is there, look at it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.cli.console import ExitCode, fail, print_json
from shared.data.cli.options import FormatOption, ImagesOption, JsonOption, PathArgument, found, progress_bar

if TYPE_CHECKING:
    from shared.data.report import DataReport, LabelledDataReport


def check(
    path: PathArgument,
    format: FormatOption = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    json: JsonOption = False,
) -> None:
    """Count what is there and name every defect; nothing is changed. Exits with 5 where there are errors."""
    from shared.data.check import check_dataset
    from shared.data.classification_check import check_classification, classification_format

    path = found(path)
    labels_format = classification_format(path, format)
    with progress_bar(json) as progress:
        bar = progress.add_task("checking", total=None)

        def update(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        report = (
            check_dataset(path, format=format, images_dir=images, progress=update)
            if labels_format is None
            else check_classification(path, labels_format, images, update)
        )
    _show(report, json)
    if not report.ok:
        raise typer.Exit(ExitCode.REFUSED)


def stats(
    path: PathArgument,
    format: FormatOption = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    json: JsonOption = False,
) -> None:
    """Count classes, labels and sizes from the labels alone: fast, and no picture is decoded."""
    from shared.data import check as detection
    from shared.data import classification_check as classification
    from shared.data.dataset import Defect
    from shared.data.report import DataReport, LabelledDataReport, summary

    path = found(path)
    defects: list[tuple[str, Defect]] = []
    labels_format = classification.classification_format(path, format)
    report: DataReport | LabelledDataReport
    if labels_format is None:
        name, boxes = detection.read_all(path, format, images, defects)
        report = DataReport(**summary(path, name, defects), splits=detection.describe_splits(boxes))
    else:
        sets = classification.read_all(path, labels_format, images, defects)
        splits = classification.describe_splits(sets)
        report = LabelledDataReport(**summary(path, labels_format, defects), splits=splits)
    if defects and not report.splits:
        fail(defects[0][1].detail)
    if json:
        print_json(report.model_dump(mode="json", include={"source", "format", "splits"}))
    else:
        _show(report, json=False, verdict=False)


def _show(report: "DataReport | LabelledDataReport", json: bool, verdict: bool = True) -> None:
    from shared.data.report import LabelledDataReport
    from shared.data.report_table import show_labelled_report, show_report

    if json:
        print_json(report.model_dump(mode="json"))
    elif isinstance(report, LabelledDataReport):
        show_labelled_report(report, verdict=verdict)
    else:
        show_report(report, verdict=verdict)


def preview(
    path: PathArgument,
    out: Annotated[Path, typer.Option(help="Picture to write: .jpg or .png.")] = Path("preview.jpg"),
    split: Annotated[str | None, typer.Option(help="train, val, ... Default: the first.")] = None,
    count: Annotated[int, typer.Option(min=1, max=400, help="Pictures in the grid.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the pictures.")] = 0,
    only: Annotated[
        str | None, typer.Option(help='Pictures that hold this class; "none": that hold none.')
    ] = None,
    format: FormatOption = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the picture.")] = False,
    json: JsonOption = False,
) -> None:
    """Write a grid of pictures with their boxes or masks; crowd regions are dashed grey."""
    from shared.data.classification_check import classification_format
    from shared.data.formats import DatasetUnreadable, find_splits, read_detection_set
    from shared.data.formats.classification import find_classification_splits, read_classification_set
    from shared.data.preview import write_label_preview, write_preview

    path = found(path)
    if out.exists() and not force:
        fail(f"{out} exists", hint="give another --out, or --force to overwrite it", code=ExitCode.USAGE)
    try:
        labels_format = classification_format(path, format)
        if labels_format is not None:
            split = split or next(iter(find_classification_splits(path, format=labels_format)), None)
            labelled = read_classification_set(path, format=labels_format, split=split, images_dir=images)
            shown = write_label_preview(labelled, out, count=count, seed=seed, only=only)
        elif only is not None:
            fail("--only is for sets of class labels, not for boxes", code=ExitCode.USAGE)
        else:
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
