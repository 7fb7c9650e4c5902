"""Boxes and labels drawn into a picture, and pictures written as JPEG."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from shared.vision.boxes import Boxes, Detections

# Okabe and Ito's palette (RGB), readable with every common colour blindness; black is left out.
PALETTE = (
    (213, 94, 0), (0, 158, 115), (86, 180, 233), (240, 228, 66),
    (204, 121, 167), (230, 159, 0), (0, 114, 178),
)  # fmt: skip


def draw_detections(
    image: NDArray[np.uint8], detections: Detections, labels: Sequence[str]
) -> NDArray[np.uint8]:
    """Return a copy of `image` (uint8 [H, W, 3] RGB) with each box, its label and its score.

    `labels` are the class names; an index beyond them is drawn as the number itself.
    """
    captions = [
        f"{_class_name(labels, label)} {score:.2f}"
        for label, score in zip(detections.labels.tolist(), detections.scores.tolist(), strict=True)
    ]
    return draw_boxes(image, detections.boxes, captions, detections.labels.tolist())


def draw_boxes(
    image: NDArray[np.uint8], boxes: Boxes, captions: Sequence[str], colours: Sequence[int]
) -> NDArray[np.uint8]:
    """Return a copy of `image` with boxes [N, 4], each with a caption ("" for none) and a palette index."""
    canvas = np.ascontiguousarray(image).copy()
    short_side = min(canvas.shape[:2])
    thickness = max(1, round(short_side / 300))
    font_scale = max(0.35, short_side / 1100)
    for box, caption, index in zip(boxes.tolist(), captions, colours, strict=True):
        colour = PALETTE[index % len(PALETTE)]
        x1, y1, x2, y2 = (round(value) for value in box)
        cv2.rectangle(canvas, (x1, y1), (x2 - 1, y2 - 1), colour, thickness)
        if caption:
            _draw_caption(canvas, caption, (x1, y1), colour, font_scale, thickness)
    return canvas


def draw_captions(
    image: NDArray[np.uint8], captions: Sequence[str], colours: Sequence[int]
) -> NDArray[np.uint8]:
    """Return a copy of `image` with one line per caption from its upper left corner on.

    `colours` are palette indices. A caption says something of the whole picture.
    """
    canvas = np.ascontiguousarray(image).copy()
    side = math.sqrt(canvas.shape[0] * canvas.shape[1])  # of a square as large: strips are low and long
    font_scale, thickness = max(0.4, side / 800), max(1, round(side / 400))
    top = 0
    for caption, index in zip(captions, colours, strict=True):
        colour = PALETTE[index % len(PALETTE)]
        top += _draw_caption(canvas, caption, (0, top), colour, font_scale, thickness, above=False)
    return canvas


def encode_jpeg(image: NDArray[np.uint8], quality: int = 90) -> bytes:
    """Return `image` (uint8 [H, W, 3] RGB) as a JPEG file with 4:2:0 chroma; quality 1..100."""
    encoded: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=quality, colorspace="RGB", colorsubsampling="420"
    )
    return encoded


def _class_name(labels: Sequence[str], index: int) -> str:
    return labels[index] if 0 <= index < len(labels) else str(index)


def _draw_caption(
    canvas: NDArray[np.uint8],
    caption: str,
    corner: tuple[int, int],
    colour: tuple[int, int, int],
    font_scale: float,
    thickness: int,
    *,
    above: bool = True,
) -> int:
    """Write `caption` on a filled strip above `corner`, or below it where the picture ends.

    With `above` False it is below in any case. Return the strip's height.
    """
    font = cv2.FONT_HERSHEY_SIMPLEX
    (width, height), baseline = cv2.getTextSize(caption, font, font_scale, thickness)
    strip = height + baseline + 2
    left = max(0, min(corner[0], canvas.shape[1] - width))
    top = corner[1] - strip if above and corner[1] >= strip else corner[1]
    cv2.rectangle(canvas, (left, top), (left + width, top + strip), colour, cv2.FILLED)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luminance > 128 else (255, 255, 255)
    cv2.putText(canvas, caption, (left, top + height + 1), font, font_scale, ink, thickness, cv2.LINE_AA)
    return strip
