"""The size of a picture file, read from its first kilobytes."""

from pathlib import Path

from shared.data.dataset import Defect, Severity
from shared.vision.headers import ImageTooLarge, NotAnImage, TruncatedImage, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_HEADER_BYTES = 65_536  # holds the header of nearly every picture; the rest is read where it does not


def read_size(path: Path) -> tuple[int, int]:
    """Return (height, width) in pixels, upright. Raises OSError, NotAnImage or TruncatedImage."""
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
        try:
            return read_header(start).size
        except TruncatedImage:
            return read_header(start + file.read()).size


def usable_size(path: Path, where: str, defects: list[Defect]) -> tuple[int, int] | None:
    """Return `read_size`, or None with a defect where the picture is missing or broken."""
    try:
        return read_size(path)
    except FileNotFoundError:
        code, detail = "missing_image", f"{path} does not exist"
    except TruncatedImage as error:
        code, detail = "truncated_image", str(error)
    except (NotAnImage, ImageTooLarge, OSError) as error:
        code, detail = "unreadable_image", str(error)
    defects.append(Defect(Severity.ERROR, code, where, f"{detail}; left out"))
    return None


def list_pictures(folder: Path) -> list[Path]:
    """Return the picture files directly in `folder`, by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
