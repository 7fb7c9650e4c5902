"""Small grey pictures for tests, each unlike the others."""

from pathlib import Path

import cv2
import numpy as np


def scene(seed: int) -> np.ndarray:
    """A grey strip of soft shapes with fine grain, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(40, 215, (5, 12)), (160, 64), interpolation=cv2.INTER_CUBIC)
    fine = cv2.GaussianBlur(rng.normal(0, 60, (64, 160)), (0, 0), 1.5)
    return np.clip(coarse + fine, 0, 255).astype(np.uint8)


def write(path: Path, image: np.ndarray, quality: int = 92) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
