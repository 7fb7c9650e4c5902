"""What the user named on the command line, as a list of files to predict on with a name for each result."""

import glob
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["picture", "video", "recording"]
SUFFIXES: dict[Kind, frozenset[str]] = {
    "picture": frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"}),
    "video": frozenset({".mp4", ".avi", ".mov", ".mkv"}),
    "recording": frozenset({".dat", ".raw", ".h5", ".hdf5"}),
}
_KNOWN = frozenset[str]().union(*SUFFIXES.values())
# Taken by the run's own summary.json.
_RESERVED_STEMS = frozenset({"summary"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file that was named, or that lies in a folder that was: `name` is its path in there.

    `folder` is None for a file that was named outright, by itself or by a pattern.
    """

    path: Path
    name: Path
    folder: str | None = None

    @property
    def kind(self) -> Kind:
        """By its suffix; a file of another one counts as a picture, since its contents decide."""
        suffix = self.path.suffix.lower()
        return next((kind for kind, suffixes in SUFFIXES.items() if suffix in suffixes), "picture")


@dataclass(frozen=True, slots=True)
class Source:
    """A file to predict on; its results are named `stem` (relative, unique in the run) plus a suffix."""

    path: Path
    kind: Kind
    stem: Path


@dataclass(frozen=True, slots=True)
class SourceProblem:
    """Something named that gives no result, and why."""

    source: str
    reason: str


def find_files(
    arguments: Iterable[str], *, recursive: bool = False
) -> tuple[list[FoundFile], list[SourceProblem]]:
    """Expand files, folders and glob patterns; a file named twice is there twice.

    A folder gives its pictures, videos and recordings by suffix (those of its subfolders too if `recursive`),
    hidden ones left out.
    """
    found: list[FoundFile] = []
    problems: list[SourceProblem] = []
    for argument in arguments:
        try:
            files, reason = _expand(argument, recursive)
        except OSError as error:  # no right to look into a folder, a name too long
            files, reason = [], error.strerror or str(error)
        if reason is not None:
            problems.append(SourceProblem(argument, reason))
        found += files
    return found, problems


def choose_sources(
    files: Iterable[FoundFile], takes: Collection[Kind], model: str
) -> tuple[list[Source], list[SourceProblem]]:
    """Return what a model that takes these kinds of files can predict on, and a problem for what it cannot.

    A file that was named twice is taken once. Files of other kinds that only lie in a folder that was named
    are passed over, as anything else there.
    """
    once: dict[Path, FoundFile] = {}
    problems: dict[str, SourceProblem] = {}
    held: dict[str, set[Kind]] = {}  # by folder
    for file in files:
        if file.folder is not None:
            held.setdefault(file.folder, set()).add(file.kind)
        if file.kind in takes:
            once.setdefault(file.path.resolve(), file)
        elif file.folder is None:
            reason = f"is a {file.kind}, and {model} takes {_plurals(takes)}"
            problems[str(file.path)] = SourceProblem(str(file.path), reason)
    for folder, kinds in held.items():
        if kinds.isdisjoint(takes):
            reason = f"holds {_plurals(kinds)} only, and {model} takes {_plurals(takes)}"
            problems[folder] = SourceProblem(folder, reason)
    return _with_unique_stems(once.values()), list(problems.values())


def _expand(argument: str, recursive: bool) -> tuple[list[FoundFile], str | None]:
    path = Path(argument)
    if path.is_dir():
        files = [FoundFile(file, name, argument) for file, name in _files_of_folder(path, recursive)]
        return files, None if files else _empty_folder_reason(path, recursive)
    if path.exists():
        return [FoundFile(path, Path(path.name))], None
    if glob.has_magic(argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
        files = [FoundFile(match, Path(match.name)) for match in matches if match.is_file()]
        return files, None if files else "no file matches this pattern"
    return [], "no such file or folder"


def _files_of_folder(folder: Path, recursive: bool) -> list[tuple[Path, Path]]:
    files = [
        (path, path.relative_to(folder))
        for path in sorted(folder.rglob("*") if recursive else folder.iterdir())
        if path.suffix.lower() in _KNOWN and path.is_file()
    ]
    return [(path, name) for path, name in files if not any(part.startswith(".") for part in name.parts)]


def _empty_folder_reason(folder: Path, recursive: bool) -> str:
    suffixes = ", ".join(sorted(suffix[1:] for suffix in _KNOWN))
    if not recursive and _files_of_folder(folder, recursive=True):
        return "no picture, video or recording in the folder itself, only in its subfolders: add --recursive"
    return f"no picture, video or recording in this folder ({suffixes})"


def _plurals(kinds: Collection[Kind]) -> str:
    return " and ".join(f"{kind}s" for kind in SUFFIXES if kind in kinds)


def _with_unique_stems(files: Iterable[FoundFile]) -> list[Source]:
    taken = set(_RESERVED_STEMS)
    sources = []
    for file in files:
        stem = file.name.with_suffix("")
        candidate, number = stem, 1
        # Case-folded, for file systems on which A.jpg and a.jpg are one file.
        while str(candidate).casefold() in taken:
            number += 1
            candidate = stem.with_name(f"{stem.name}-{number}")
        taken.add(str(candidate).casefold())
        sources.append(Source(file.path, file.kind, candidate))
    return sources
