"""Files that are either wholly there or not there at all, and paths that stay where they belong."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


class PathEscapesRoot(ValueError):
    """A path from outside leads out of the folder it has to stay under."""


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` when the block ends well.

    The temporary keeps the suffix, since many writers choose their format by it. On any error, a full
    disk included, the temporary is removed and `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp made it 0600; other services must read it
        sync(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Replace the contents of `path` (text as UTF-8) in one step; OSError leaves the old contents."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, named with a leading dot; renamed to `path` at the end.

    Every file in it is synced first. Raises FileExistsError if `path` exists, before or after the block;
    on any error the temporary folder is removed.
    """
    if path.exists():
        raise FileExistsError(f"{path} already exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp made it 0700; other services must read it
        for folder, _, names in os.walk(temporary):
            for name in names:
                sync(Path(folder, name))
            sync(Path(folder))
        try:
            temporary.rename(path)  # refuses a folder that is there and not empty
        except OSError as error:
            if path.exists():
                raise FileExistsError(f"{path} already exists") from error
            raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def resolve_under(root: Path, path: str | Path) -> Path:
    """Return `path` (relative ones are taken from `root`) with symlinks resolved.

    Raises PathEscapesRoot if it ends outside `root`.
    """
    if "\0" in str(path):
        raise PathEscapesRoot(f"{str(path)!r} holds a NUL byte")
    resolved_root = root.resolve()
    resolved = (resolved_root / path).resolve()
    if not resolved.is_relative_to(resolved_root):
        raise PathEscapesRoot(f"{str(path)!r} leads outside {root}; give a path below it")
    return resolved


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
