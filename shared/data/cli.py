"""`sightline data`: check a data set, make the synthetic one, look at pictures with their boxes."""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared.cli.console import ExitCode, err, fail, print_json

if TYPE_CHECKING:
    from rich.progress import Progress

app = typer.Typer(no_args_is_help=True, help="Check, make and look at labelled pictures.")
make_app = typer.Typer(no_args_is_help=True, help="Make a synthetic data set.")
app.add_typer(make_app, name="make")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
PathArgument = Annotated[
    Path, typer.Argument(help="COCO JSON file or folder, YOLO data.yaml or folder.", show_default=False)
]
FormatOption = Annotated[
    Literal["auto", "coco", "yolo"], typer.Option("--format", help="How the labels are written.")
]
ImagesOption = Annotated[Path | None, typer.Option("--images", help="Folder of the pictures, if unusual.")]


@app.command()
def check(
    path: PathArgument,
    format: FormatOption = "auto",  # noqa: A002 - the option's name
    images: ImagesOption = None,
    json: JsonOption = False,
) -> None:
    """Count what is there and name every defect; nothing is changed. Exits with 5 where there are errors."""
    from shared.data.check import check_dataset
    from shared.data.report_table import show_report

    path = _found(path)
    with _progress(json) as progress:
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


@make_app.command()
def cctv(
    out: Annotated[Path | None, typer.Option(help="New folder. Default: cctv in the data root.")] = None,
    train: Annotated[int, typer.Option(min=0, help="Pictures for training.")] = 400,
    val: Annotated[int, typer.Option(min=0, help="Pictures for validation.")] = 80,
    test: Annotated[int, typer.Option(min=0, help="Pictures for the final test.")] = 80,
    size: Annotated[str, typer.Option(help="Pixels: 416, or height x width such as 360x640.")] = "416",
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier cctv set in that folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """People-like figures before fixed cameras, as COCO JSON with pictures, in train, val and test."""
    from shared.core.settings import CommonSettings
    from shared.data.synthetic.cctv import generate_cctv

    if out is None:
        data_root = CommonSettings().data_root
        assert data_root is not None  # filled in from var_dir
        out = data_root / "cctv"
    out = out.absolute()
    counts = {"train": train, "val": val, "test": test}
    pixels = _parse_size(size)
    replaces = _check_target(out, force)
    summary = {"path": str(out), "images": counts, "size": list(pixels), "seed": seed, "written": not dry_run}
    if not dry_run:
        with _progress(json) as progress, _vacated(out, replaces):
            bar = progress.add_task("making", total=sum(counts.values()))
            try:
                generate_cctv(
                    out, count=counts, size=pixels, seed=seed, on_image=lambda: progress.advance(bar)
                )
            except ValueError as error:
                fail(str(error), code=ExitCode.USAGE)
    if json:
        print_json(summary)
    else:
        verb = "would write" if dry_run else "wrote"
        typer.echo(f"{verb} {sum(counts.values())} pictures of {pixels[0]} x {pixels[1]} to {out}")


@app.command()
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

    path = _found(path)
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


def _found(path: Path) -> Path:
    """Return the path from the current folder, or else from the data root, as `data.path` is looked for."""
    from shared.core.settings import CommonSettings

    if path.exists():
        return path
    data_root = CommonSettings().data_root
    assert data_root is not None  # filled in from var_dir
    if not (data_root / path).exists():
        fail(
            f"{path} is neither in the current folder nor under {data_root}",
            hint="give a COCO JSON file, a data.yaml or a folder",
            code=ExitCode.NOT_FOUND,
        )
    return data_root / path


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if match is None:
        fail(f"size {text!r} is neither like 416 nor like 360x640", code=ExitCode.USAGE)
    return int(match[1]), int(match[2] or match[1])


def _check_target(out: Path, force: bool) -> bool:
    """Say whether `out` holds an earlier set that may be replaced; leave the command where it must not be."""
    if not out.exists():
        return False
    if not out.is_dir():
        fail(f"{out} is a file", hint="give another --out", code=ExitCode.USAGE)
    if not any(out.iterdir()):
        return True
    if not _is_cctv_set(out):
        fail(f"{out} is not empty and holds something else than a cctv set", hint="give another --out",
             code=ExitCode.USAGE)  # fmt: skip
    if not force:
        fail(f"{out} already holds a cctv set", hint="give another --out, or --force to replace it",
             code=ExitCode.USAGE)  # fmt: skip
    return True


def _is_cctv_set(folder: Path) -> bool:
    """Say whether the folder holds only what `make cctv` writes, so that replacing it loses nothing else."""
    import orjson

    from shared.data.synthetic.cctv import DESCRIPTION, SPLITS

    if {path.name for path in folder.iterdir()} - {"annotations", *SPLITS}:
        return False
    files = list((folder / "annotations").glob("*.json"))
    try:
        return bool(files) and all(
            orjson.loads(file.read_bytes())["info"]["description"] == DESCRIPTION for file in files
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def _vacated(out: Path, replaces: bool) -> Iterator[None]:
    """Move what is at `out` aside for the block; it comes back on an error and goes when all went well."""
    if not replaces:
        yield
        return
    aside = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-old-"))
    out.rename(aside / out.name)
    try:
        yield
    except BaseException:
        (aside / out.name).rename(out)
        aside.rmdir()
        raise
    shutil.rmtree(aside)


def _progress(quiet: bool) -> "Progress":
    """A bar on stderr; silent with --json or when nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
