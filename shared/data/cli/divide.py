"""`sightline data split` and `tiles`: divide a set so that nothing is shared, and cut pictures into tiles."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import orjson
import typer

from shared.cli.console import ExitCode, fail, print_json
from shared.cli.console import out as console
from shared.data.cli.options import (
    ImagesOption,
    JsonOption,
    check_target,
    found,
    progress_bar,
    vacated,
)

if TYPE_CHECKING:
    from shared.data.classification import ClassificationSet
    from shared.data.tiles import TileReport

LabelsPath = Annotated[
    Path,
    typer.Argument(
        help="Severstal's train.csv or its folder, images/ with annotations/, or labelme.", show_default=False
    ),
]
LabelsFormat = Annotated[
    Literal["auto", "severstal", "labels_json", "labelme"],
    typer.Option("--format", help="How the labels are written."),
]
GroupOption = Annotated[
    str | None,
    typer.Option(
        "--group-pattern",
        help="Regular expression: what its parentheses catch in a file name is the picture's group, which "
        "stays together. Default: the groups that the labels name, if any.",
    ),
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")]


def split(
    path: LabelsPath,
    ratios: Annotated[str, typer.Option(help="Shares of train,val,test or train,val.")] = "70,15,15",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same division.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Default: splits.json in the data's folder, where training finds it."
        ),
    ] = None,
    group_pattern: GroupOption = None,
    format: LabelsFormat = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an earlier split file.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Divide pictures by iterative stratification; copies, look-alikes and groups stay together."""
    from shared.data.classification_splits import parse_ratios, stratified_parts
    from shared.data.formats import DatasetUnreadable
    from shared.data.leaks import read_looks, refuse_leaks
    from shared.data.split_file import SPLIT_FILE_NAME, describe_parts, read_split_file, write_split_file

    path = found(path)
    target = (out or (path if path.is_dir() else path.parent) / SPLIT_FILE_NAME).absolute()
    if target.exists() and not dry_run:
        if not force:
            fail(f"{target} exists", hint="give --out, or --force to overwrite it", code=ExitCode.USAGE)
        try:
            read_split_file(target)
        except (DatasetUnreadable, OSError):
            fail(f"{target} is no split file; it stays", hint="give --out", code=ExitCode.USAGE)
    try:
        shares = parse_ratios(ratios)
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)
    dataset = _read(path, format, images, group_pattern)
    try:
        with progress_bar(json) as progress:
            bar = progress.add_task("looking", total=len(dataset))
            looks = read_looks(dataset.records, on_image=lambda: progress.advance(bar))
        parts = stratified_parts(dataset, shares, seed=seed, looks=looks)
        by_id = {record.image_id: look for record, look in zip(dataset.records, looks, strict=True)}
        refuse_leaks(parts, [by_id[record.image_id] for part in parts.values() for record in part.records])
        split_file = describe_parts(parts, seed=seed, ratios=shares)
    except (ValueError, OSError) as error:
        fail(str(error), hint=f"sightline data check {path}")
    if not dry_run:
        try:
            write_split_file(target, split_file)
        except OSError as error:
            fail(f"{target} cannot be written: {error}", hint="give another --out")
    counts = {name: _counts(part) for name, part in parts.items()}
    if json:
        summary = {
            "path": str(target),
            "written": not dry_run,
            "data_hash": split_file.data_hash,
            "parts": counts,
        }
        print_json(summary)
        return
    _show_parts(counts)
    absent = [f"{name} has no {label}" for name, own in counts.items() for label, n in own.items() if n == 0]
    if absent:
        typer.echo(f"note: {'; '.join(absent)}")
    typer.echo(f"{'would write' if dry_run else 'wrote'} {target}")


def tiles(
    source: LabelsPath,
    out: Annotated[Path, typer.Argument(help="New folder.", show_default=False)],
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 256,
    stride: Annotated[int, typer.Option(help="Pixels from one tile to the next.")] = 256,
    min_area: Annotated[
        int,
        typer.Option(help="Pixels of a region (or half of a smaller one) that make a tile hold its class."),
    ] = 100,
    group_pattern: GroupOption = None,
    clean_per_labelled: Annotated[
        float | None,
        typer.Option(help="Keep at most this many tiles without a class for each with one; 1 balances."),
    ] = None,
    unlabelled_as_clean: Annotated[
        bool,
        typer.Option("--unlabelled-as-clean", help="Take pictures without a label file as free of classes."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the tiles that --clean-per-labelled keeps.")] = 0,
    format: LabelsFormat = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace earlier tiles in that folder.")] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Cut labelled pictures into tiles, labelled by the regions in each; groups are kept."""
    from shared.data.tiles import TileOptions, plan_tiles, write_tiles

    source = found(source)
    out = out.absolute()
    replaces = check_target(out, force, _is_tile_set, "a set of tiles")
    try:
        options = TileOptions(size, stride, min_area, clean_per_labelled, unlabelled_as_clean, seed)
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)
    dataset = _read(source, format, images, group_pattern)
    try:
        planned, report = plan_tiles(dataset, options)
        if not dry_run:
            with progress_bar(json) as progress, vacated(out, replaces):
                bar = progress.add_task("cutting", total=len(planned))
                report = write_tiles(dataset, out, options, on_tile=lambda: progress.advance(bar))
    except (ValueError, OSError) as error:
        fail(str(error), hint=f"sightline data check {source}")
    if json:
        print_json({"path": str(out), "written": not dry_run, **report.as_dict()})
    else:
        _show_tiles(report)
        typer.echo(f"{'would write' if dry_run else 'wrote'} {report.tiles} tiles to {out}")


def _read(path: Path, labels_format: str, images: Path | None, pattern: str | None) -> "ClassificationSet":
    """Read the whole set, left-out pictures told on stderr; leave the command where that cannot be."""
    from shared.cli.console import err
    from shared.data.dataset import Severity
    from shared.data.formats import DatasetUnreadable
    from shared.data.formats.classification import find_own_splits, read_classification_set
    from shared.data.groups import group_by_name

    try:
        divided = find_own_splits(path, format=labels_format)
        if divided:
            fail(
                f"{path} comes divided, into {', '.join(divided)}",
                hint="training takes these splits as they are; to divide or cut one, give its own folder",
                code=ExitCode.USAGE,
            )
        dataset = read_classification_set(path, format=labels_format, images_dir=images)
    except (DatasetUnreadable, OSError) as error:
        fail(str(error), hint=f"sightline data check {path}")
    left_out = sum(defect.severity == Severity.ERROR for defect in dataset.defects)
    if left_out:
        err.print(
            f"{left_out} errors in the labels; `sightline data check {path}` names each", soft_wrap=True
        )
    if not dataset.records:
        fail(f"{path} holds no usable labelled picture", hint=f"sightline data check {path}")
    if pattern is None:
        return dataset
    try:
        return group_by_name(dataset, pattern)
    except ValueError as error:
        fail(str(error), code=ExitCode.USAGE)


def _counts(part: "ClassificationSet") -> dict[str, int]:
    labels = part.labels()
    return {
        "images": len(part),
        "none": int((~labels.any(axis=1)).sum()),
        **dict(zip(part.class_names, part.class_counts().tolist(), strict=True)),
    }


def _show_parts(counts: dict[str, dict[str, int]]) -> None:
    """Print a table of classes by parts, with each part's share of the class."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("", *counts, "all")
    for label in next(iter(counts.values())):
        total = sum(own[label] for own in counts.values())
        cells = [f"{own[label]} ({own[label] / max(1, total):.1%})" for own in counts.values()]
        table.add_row(escape(label), *cells, str(total))
    console.print(table)


def _show_tiles(report: "TileReport") -> None:
    from rich.markup import escape
    from rich.table import Table

    shares = Table("tiles", "count", "share", title_justify="left")
    for name, count in [*report.classes.items(), ("none", report.clean)]:
        shares.add_row(escape(name), str(count), f"{count / max(1, report.tiles):.1%}")
    for reason, count in report.left_out.items():
        shares.add_row(f"[dim]left out: {escape(reason)}[/]", str(count), "")
    groups = Table("group", "tiles", "with a class")
    for name, (count, labelled) in sorted(report.groups.items()):
        groups.add_row(escape(name), str(count), str(labelled))
    console.print(shares, groups)


def _is_tile_set(folder: Path) -> bool:
    """Say whether the folder holds only what `tiles` and `split` write: replacing it loses nothing else."""
    from shared.data.formats.class_list import FILE_NAME
    from shared.data.split_file import SPLIT_FILE_NAME
    from shared.data.tiles import DESCRIPTION, REPORT_FILE

    known = {"images", "annotations", FILE_NAME, REPORT_FILE, SPLIT_FILE_NAME}
    if {path.name for path in folder.iterdir()} - known:
        return False
    try:
        return bool(orjson.loads((folder / REPORT_FILE).read_bytes())["description"] == DESCRIPTION)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return False
