"""What writers that died left behind: found by their dot-names, told from work in progress by its lock."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.repository.locking import LOCK_FILE, model_lock, try_lock
from shared.repository.names import MODEL_NAME
from shared.repository.repository import HIGHEST_VERSION_FILE, ModelRepository

_KEPT = {LOCK_FILE, HIGHEST_VERSION_FILE}


def clean(repository: ModelRepository, *, dry_run: bool) -> list[Path]:
    """Remove unfinished and half-removed versions and temporary files; return what was (or would be) removed.

    What a living process is writing is left alone. Configurations that lag behind their aliases, because
    their writer died between the two files, are written anew.
    """
    if not repository.root.is_dir():
        return []
    removed: list[Path] = []
    for folder in sorted(repository.root.iterdir()):
        if folder.is_symlink() or not folder.is_dir() or not MODEL_NAME.fullmatch(folder.name):
            continue
        with model_lock(folder):
            for path in sorted(folder.iterdir()):
                if path.name.startswith(".") and path.name not in _KEPT and _is_abandoned(path):
                    removed.append(path)
                    if not dry_run:
                        _delete(path)
            if not dry_run and repository.aliases_path(folder.name).exists():
                repository.write_config(folder.name)
    return removed


def _is_abandoned(path: Path) -> bool:
    """Say whether no process works on `path`: the caller holds the model's lock, which covers all files."""
    if path.is_symlink() or not path.is_dir():
        return True
    with _opened(path) as descriptor:
        return try_lock(descriptor)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
