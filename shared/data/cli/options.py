"""What the data commands have in common: options, finding a set, a bar, replacing a folder."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared.cli.console import ExitCode, err, fail

if TYPE_CHECKING:
    from rich.progress import Progress

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
PathArgument = Annotated[
    Path,
    typer.Argument(
        help="COCO JSON file or folder, YOLO data.yaml or folder; Severstal's train.csv or its folder, "
        "images/ with annotations/, labelme.",
        show_default=False,
    ),
]
FormatOption = Annotated[
    Literal["auto", "coco", "yolo", "severstal", "labels_json", "labelme"],
    typer.Option("--format", help="How the labels are written."),
]
ImagesOption = Annotated[Path | None, typer.Option("--images", help="Folder of the pictures, if unusual.")]


def found(path: Path) -> Path:
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


def check_target(out: Path, force: bool, is_earlier: Callable[[Path], bool], what: str) -> bool:
    """Say whether `out` holds `what`, which may be replaced; leave the command where it must not be."""
    if not out.exists():
        return False
    if not out.is_dir():
        fail(f"{out} is a file", hint="give another --out", code=ExitCode.USAGE)
    if not any(out.iterdir()):
        return True
    if not is_earlier(out):
        fail(f"{out} is not empty and holds something else than {what}", hint="give another --out",
             code=ExitCode.USAGE)  # fmt: skip
    if not force:
        fail(f"{out} already holds {what}", hint="give another --out, or --force to replace it",
             code=ExitCode.USAGE)  # fmt: skip
    return True


@contextlib.contextmanager
def vacated(out: Path, replaces: bool) -> Iterator[None]:
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


def progress_bar(quiet: bool) -> "Progress":
    """A bar on stderr; silent with --json or when nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=quiet or not err.is_terminal)
