"""The JPEG pictures that a benchmark sends, the same bytes to every side of a comparison."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

GENERATED = 32
GENERATED_SIZE = (480, 640)


def read_pictures(folder: Path) -> list[bytes]:
    """Return the bytes of every JPEG in `folder`, in the order of names. Raises FileNotFoundError if none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    if not paths:
        raise FileNotFoundError(f"no JPEG picture in {folder}")
    return [path.read_bytes() for path in paths]


@contextlib.contextmanager
def generated_pictures() -> Iterator[Path]:
    """Yield a temporary folder of pictures from the `cctv` generator, the same on every call."""
    # Not at the top: the load generator comes through here and has no use for OpenCV.
    from shared.data.synthetic.cctv import generate_cctv

    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        generate_cctv(Path(folder, "cctv"), count={"test": GENERATED}, size=GENERATED_SIZE, seed=0)
        yield Path(folder, "cctv", "test")


def varied_pictures(folder: Path) -> list[bytes]:
    """Return the folder's pictures, most of them cut or scaled so that sizes and proportions differ."""
    from shared.vision.decode import decode_image
    from shared.vision.drawing import encode_jpeg

    varied = []
    for number, data in enumerate(read_pictures(folder)):
        image = decode_image(data)
        height, width = image.shape[:2]
        parts = (
            image,
            image[: max(1, height * 2 // 3)],
            image[:, : max(1, width // 2)],
            image[height // 4 :, width // 3 :],
            image[::2, ::2],
        )
        part = parts[number % len(parts)]
        varied.append(data if part is image else encode_jpeg(part.copy(), 92))
    return varied
