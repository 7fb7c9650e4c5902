"""Pictures whose detections are known by construction (see tests/fixtures/tiny_detection_model.py)."""

import io
from typing import Any

import numpy as np
from PIL import Image

from tests.fixtures.tiny_detection_model import paint

SIZE = 96  # the model's own, so that letterboxing changes nothing
RED, GREEN, BLUE = 0, 1, 2
GROUND = 30

# Inside the cells of 24 pixels, so that each is one object.
RED_BOX, BLUE_BOX = (4, 5, 20, 18), (50, 50, 70, 60)
RED_SCORE, BLUE_SCORE = 1.0, 200 / 255


def two_rectangles() -> np.ndarray:
    """A bright red and a duller blue rectangle on a dark ground."""
    picture = np.full((SIZE, SIZE, 3), GROUND, np.uint8)
    paint(picture, RED_BOX, RED)
    paint(picture, BLUE_BOX, BLUE, 200)
    return picture


def encode(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture (array or PIL image) as a file, by Pillow and so independently of the product."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def boxes(answer: dict[str, Any]) -> list[tuple[float, ...]]:
    """Return the boxes of an answer as (x1, y1, x2, y2)."""
    return [tuple(found["box"][side] for side in ("x1", "y1", "x2", "y2")) for found in answer["detections"]]


def labels(answer: dict[str, Any]) -> list[str]:
    return [found["label"] for found in answer["detections"]]
