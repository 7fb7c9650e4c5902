"""What the user named on the command line, as a list of pictures and videos with a name for each result."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv"})
# Taken by the run's own summary.json.
_RESERVED_STEMS = frozenset({"summary"})


@dataclass(frozen=True, slots=True)
class Source:
    """A file to predict on; its results are named `stem` (relative, unique in the run) plus a suffix."""

    path: Path
    kind: Literal["picture", "video"]
    stem: Path


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Something named that gives no result, and why."""

    source: str
    reason: str


def find_sources(
    arguments: Iterable[str], *, recursive: bool = False
) -> tuple[list[Source], list[SourceProblem]]:
    """Expand files, folders and glob patterns; a file named twice is taken once.

    A folder gives its pictures and videos by suffix (those of its subfolders too if `recursive`), hidden
    ones left out. A file named outright is a picture unless its suffix is a video's: its contents decide.
    """
    found: dict[Path, tuple[Path, Path]] = {}  # resolved path -> (path as named, relative name)
    problems: list[SourceProblem] = []
    for argument in arguments:
        try:
            files, reason = _expand(argument, recursive)
        except OSError as error:  # no right to look into a folder, a name too long
            files, reason = [], error.strerror or str(error)
        if reason is not None:
            problems.append(SourceProblem(argument, reason))
        for path, relative in files:
            found.setdefault(path.resolve(), (path, relative))
    return _with_unique_stems(found.values()), problems


def _expand(argument: str, recursive: bool) -> tuple[list[tuple[Path, Path]], str | None]:
    path = Path(argument)
    if path.is_dir():
        files = _files_of_folder(path, recursive)
        return files, None if files else _empty_folder_reason(path, recursive)
    if path.exists():
        return [(path, Path(path.name))], None
    if glob.has_magic(argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
        files = [(match, Path(match.name)) for match in matches if match.is_file()]
        return files, None if files else "no file matches this pattern"
    return [], "no such file or folder"


def _files_of_folder(folder: Path, recursive: bool) -> list[tuple[Path, Path]]:
    known = PICTURE_SUFFIXES | VIDEO_SUFFIXES
    files = [
        (path, path.relative_to(folder))
        for path in sorted(folder.rglob("*") if recursive else folder.iterdir())
        if path.suffix.lower() in known and path.is_file()
    ]
    return [(path, name) for path, name in files if not any(part.startswith(".") for part in name.parts)]


def _empty_folder_reason(folder: Path, recursive: bool) -> str:
    suffixes = ", ".join(sorted(suffix[1:] for suffix in PICTURE_SUFFIXES | VIDEO_SUFFIXES))
    if not recursive and _files_of_folder(folder, recursive=True):
        return "no picture or video in the folder itself, only in its subfolders: add --recursive"
    return f"no picture or video in this folder ({suffixes})"


def _with_unique_stems(files: Iterable[tuple[Path, Path]]) -> list[Source]:
    taken = set(_RESERVED_STEMS)
    sources = []
    for path, relative in files:
        stem = relative.with_suffix("")
        candidate, number = stem, 1
        # Case-folded, for file systems on which A.jpg and a.jpg are one file.
        while str(candidate).casefold() in taken:
            number += 1
            candidate = stem.with_name(f"{stem.name}-{number}")
        taken.add(str(candidate).casefold())
        kind: Literal["picture", "video"] = "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture"
        sources.append(Source(path, kind, candidate))
    return sources
