"""The JPEG pictures that a benchmark sends, the same bytes to every side of a comparison."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

GENERATED = 32
GENERATED_SIZE = (480, 640)
# Chosen so that a generated JPEG is about as long as a photograph of its size (100 to 150 KB).
_NOISE_SIGMA = 7.0
_QUALITY = 90


def read_pictures(folder: Path) -> list[bytes]:
    """Return the bytes of every JPEG in `folder`, in the order of names. Raises FileNotFoundError if none."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    if not paths:
        raise FileNotFoundError(f"no JPEG picture in {folder}")
    return [path.read_bytes() for path in paths]


@contextlib.contextmanager
def generated_pictures() -> Iterator[Path]:
    """Yield a temporary folder of soft shapes under camera noise, the same on every call."""
    # Not at the top: the load generator comes through here and needs none of them.
    import cv2
    import numpy as np

    from shared.vision.drawing import encode_jpeg

    rng = np.random.default_rng(0)
    height, width = GENERATED_SIZE
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        for number in range(GENERATED):
            coarse = rng.uniform(0, 255, (12, 16, 3)).astype(np.float32)
            smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
            noisy = smooth + rng.normal(0, _NOISE_SIGMA, (height, width, 1))
            image = np.clip(noisy, 0, 255).astype(np.uint8)
            Path(folder, f"{number:02}.jpg").write_bytes(encode_jpeg(image, _QUALITY))
        yield Path(folder)
