"""`sightline data make`: synthetic data sets, the same for the same seed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import orjson
import typer

from shared.cli.console import ExitCode, fail, print_json
from shared.data.cli.options import JsonOption, check_target, progress_bar, vacated

app = typer.Typer(no_args_is_help=True, help="Make a synthetic data set.")

SeedOption = Annotated[int, typer.Option(min=0, help="The same seed gives the same pictures.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be written; write nothing.")]


@app.command()
def cctv(
    out: Annotated[Path | None, typer.Option(help="New folder. Default: cctv in the data root.")] = None,
    train: Annotated[int, typer.Option(min=0, help="Pictures for training.")] = 400,
    val: Annotated[int, typer.Option(min=0, help="Pictures for validation.")] = 80,
    test: Annotated[int, typer.Option(min=0, help="Pictures for the final test.")] = 80,
    size: Annotated[str, typer.Option(help="Pixels: 416, or height x width such as 360x640.")] = "416",
    seed: SeedOption = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier cctv set in that folder.")
    ] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """People-like figures before fixed cameras, as COCO JSON with pictures, in train, val and test."""
    from shared.data.synthetic.cctv import generate_cctv

    counts = {"train": train, "val": val, "test": test}
    pixels = _parse_size(size)

    def generate(target: Path, on_image: Callable[[], None]) -> None:
        generate_cctv(target, count=counts, size=pixels, seed=seed, on_image=on_image)

    _make(
        "cctv", out, generate, _is_cctv_set, counts, sum(counts.values()), pixels, seed, force, dry_run, json
    )


@app.command()
def steel(
    out: Annotated[Path | None, typer.Option(help="New folder. Default: steel in the data root.")] = None,
    count: Annotated[int, typer.Option(min=20, help="Pictures in all, divided 70/15/15.")] = 3000,
    size: Annotated[str, typer.Option(help="Pixels: height x width.")] = "256x1600",
    seed: SeedOption = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an earlier steel set in that folder.")
    ] = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Grey strips with pits, scratches, patches and edge cracks, as often and laid out as Severstal's."""
    from shared.data.synthetic.steel import generate_steel

    pixels = _parse_size(size)

    def generate(target: Path, on_image: Callable[[], None]) -> None:
        generate_steel(target, count=count, size=pixels, seed=seed, on_image=on_image)

    _make("steel", out, generate, _is_steel_set, count, count, pixels, seed, force, dry_run, json)


def _make(
    name: str,
    out: Path | None,
    generate: Callable[[Path, Callable[[], None]], None],
    is_earlier_set: Callable[[Path], bool],
    images: int | dict[str, int],
    total: int,
    pixels: tuple[int, int],
    seed: int,
    force: bool,
    dry_run: bool,
    json: bool,
) -> None:
    """Write the set `name` with `generate` and say so; the parts that all sets share."""
    from shared.core.settings import CommonSettings

    if out is None:
        data_root = CommonSettings().data_root
        assert data_root is not None  # filled in from var_dir
        out = data_root / name
    out = out.absolute()
    replaces = check_target(out, force, is_earlier_set, f"a {name} set")
    summary = {"path": str(out), "images": images, "size": list(pixels), "seed": seed, "written": not dry_run}
    if not dry_run:
        with progress_bar(json) as progress, vacated(out, replaces):
            bar = progress.add_task("making", total=total)
            try:
                generate(out, lambda: progress.advance(bar))
            except ValueError as error:
                fail(str(error), code=ExitCode.USAGE)
    if json:
        print_json(summary)
    else:
        verb = "would write" if dry_run else "wrote"
        typer.echo(f"{verb} {total} pictures of {pixels[0]} x {pixels[1]} to {out}")


def _parse_size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if match is None:
        fail(f"size {text!r} is neither like 416 nor like 360x640", code=ExitCode.USAGE)
    return int(match[1]), int(match[2] or match[1])


def _is_cctv_set(folder: Path) -> bool:
    """Say whether the folder holds only what `make cctv` writes, so that replacing it loses nothing else."""
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


def _is_steel_set(folder: Path) -> bool:
    """Say whether the folder holds only what `make steel` writes."""
    from shared.data.split_file import SPLIT_FILE_NAME
    from shared.data.synthetic.steel import DESCRIPTION, DESCRIPTION_FILE

    if {path.name for path in folder.iterdir()} - {
        "train_images", "train.csv", SPLIT_FILE_NAME, DESCRIPTION_FILE
    }:  # fmt: skip
        return False
    try:
        return bool(orjson.loads((folder / DESCRIPTION_FILE).read_bytes())["description"] == DESCRIPTION)
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return False
