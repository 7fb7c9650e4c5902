"""Small videos and pictures whose detections by the tiny model are known in advance."""

from pathlib import Path

import cv2
import numpy as np

from tests.fixtures.tiny_detection_model import paint

FRAME_SIZE = (96, 192)


def painted(
    box: tuple[int, int, int, int], channel: int = 0, size: tuple[int, int] = FRAME_SIZE
) -> np.ndarray:
    """Return a black picture uint8 [H,W,3] RGB with one bright rectangle."""
    image = np.zeros((*size, 3), np.uint8)
    paint(image, box, channel)
    return image


def write_video_file(
    path: Path, frames: list[np.ndarray], *, frames_per_s: float = 10.0, codec: str = "mp4v"
) -> Path:
    """Write RGB frames with OpenCV alone, not with the code under test."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), frames_per_s, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def write_picture(path: Path, image: np.ndarray) -> Path:
    """Write an RGB picture in the format of the suffix."""
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]))
    return path


def moving_square(count: int) -> list[np.ndarray]:
    """Return frames in which a red rectangle of 20 x 30 pixels moves by one pixel per frame."""
    return [painted((8 + number, 10, 28 + number, 40)) for number in range(count)]


def read_frames(path: Path) -> list[np.ndarray]:
    """Read every frame back as RGB, with OpenCV alone."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while True:
        read, frame = capture.read()
        if not read:
            break
        frames.append(frame[:, :, ::-1])
    capture.release()
    return frames
