import io
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

Encode = Callable[..., bytes]


@pytest.fixture
def colours() -> np.ndarray:
    """A smooth picture with transparency, uint8 [60, 90, 4], different in every corner."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 9, 4), np.uint8)
    return cv2.resize(coarse, (90, 60))


@pytest.fixture
def encode() -> Encode:
    """Write a picture with Pillow, which the product does not use."""

    def write(image: Image.Image, kind: str, **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return write
