"""What the commands about event recordings have in common."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli.console import ExitCode, fail

if TYPE_CHECKING:
    from shared.data.events.classes import ClassList

ClassesOption = Annotated[
    str | None,
    typer.Option(help="etram3, etram8, gen1, gen4, or names in the order of their ids, separated by commas. "
                 "Default: what a simulated set says of itself."),
]  # fmt: skip
SensorOption = Annotated[
    str | None, typer.Option(help="Height x width, such as 720x1280, instead of what the files state.")
]
WorkersOption = Annotated[int | None, typer.Option(min=1, help="Recordings at once. Default: one per core.")]


def existing(path: Path) -> Path:
    """Return the path from the current folder, or else from the data root."""
    from shared.core.settings import CommonSettings

    data_root = CommonSettings().data_root
    assert data_root is not None  # filled in from var_dir
    place = path if path.exists() else data_root / path
    if not place.exists():
        fail(
            f"{path} is neither in the current folder nor under {data_root}",
            hint="give a recording (.dat, .raw, .h5) or a folder of them",
            code=ExitCode.NOT_FOUND,
        )
    return place


def chosen_classes(text: str | None, source: Path) -> "tuple[str, ClassList | None]":
    """The class list that was asked for, or else the one of the set that the source lies in."""
    from shared.data.events.classes import ClassList, class_list

    if text is not None:
        try:
            return text, class_list(text)
        except ValueError as error:
            fail(str(error), code=ExitCode.USAGE)
    for folder in (source, *list(source.absolute().parents)[:2]):
        document = set_document(folder)
        if document is not None:
            return "", ClassList(tuple(document["classes"]))
    return "", None


def set_document(folder: Path) -> dict[str, Any] | None:
    """What a simulated set says of itself, or None where the folder is none."""
    import orjson

    from shared.data.events.simulator.generate import DESCRIPTION, DESCRIPTION_FILE

    try:
        document = orjson.loads((folder / DESCRIPTION_FILE).read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return document if isinstance(document, dict) and document.get("description") == DESCRIPTION else None


def parse_size(text: str | None) -> tuple[int, int] | None:
    """(height, width) of a text like 720x1280; leaves the command for any other."""
    if text is None:
        return None
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text.strip().lower())
    if match is None:
        fail(f"size {text!r} is not like 720x1280 (height x width)", code=ExitCode.USAGE)
    return int(match[1]), int(match[2])
