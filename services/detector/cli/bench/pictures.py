"""The JPEG pictures that a benchmark sends, the same bytes to every side of a comparison."""

from pathlib import Path


def read_pictures(folder: Path) -> list[bytes]:
    """Return the bytes of every JPEG in `folder`, in the order of names. Raises FileNotFoundError if none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    if not paths:
        raise FileNotFoundError(f"no JPEG picture in {folder}")
    return [path.read_bytes() for path in paths]
