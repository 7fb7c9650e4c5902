"""classes.txt: the names of a set's classes, one a line, in the order of their numbers."""

from pathlib import Path

from shared.data.formats.errors import DatasetUnreadable

FILE_NAME = "classes.txt"


def read_class_list(folder: Path) -> list[str] | None:
    """Return the names in `folder`/classes.txt, or None where there is no such file.

    Raises DatasetUnreadable for an empty list, a repeated name or a file that is not UTF-8.
    """
    file = folder / FILE_NAME
    if not file.is_file():
        return None
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise DatasetUnreadable(f"{file} is not UTF-8: {error}") from error
    if not names or len(set(names)) != len(names):
        raise DatasetUnreadable(f"{file} must list each class once, one name a line; it has {names}")
    return names
