"""Video files: frames with their times in, an annotated MP4 out. Sound is not carried over."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import cv2
import numpy as np

from shared.core.files import atomic_path

# OpenCV's wheels carry no H.264 encoder (its licence); MPEG-4 Part 2 is there on every platform.
OUTPUT_CODEC = "mp4v"
# Only for streams that state no frame rate at all, and said aloud where it is used.
ASSUMED_FRAMES_PER_S = 25.0


class UnreadableVideo(ValueError):
    """A file that cannot be opened as a video, or holds no frame that can be decoded."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame: `rgb` uint8 [H,W,3], its number in the file from 0, its time in seconds."""

    index: int
    time_s: float
    rgb: np.ndarray


class VideoReader:
    """An open video file. Raises UnreadableVideo if OpenCV cannot open it."""

    def __init__(self, path: Path) -> None:
        # Absolute: FFmpeg takes what stands before a colon for a protocol, "cam:1.mp4" for instance.
        self._capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise UnreadableVideo(
                "not a video that can be read (damaged, or a codec that OpenCV does not decode)"
            )
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        announced = self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        # Containers may leave it out (0 or negative); some only estimate it.
        self.announced_frames: int | None = int(announced) if announced > 0 else None
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.frames_per_s: float | None = rate if math.isfinite(rate) and rate > 0 else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._capture.release()

    def frames(self, every: int = 1, limit: int | None = None) -> Iterator[Frame]:
        """Yield frames 0, every, 2·every, …, at most `limit`; skipped ones are not converted.

        Raises UnreadableVideo if not a single frame can be decoded.
        """
        given = 0
        index = 0
        while (limit is None or given < limit) and self._capture.grab():
            if index % every == 0:
                decoded, bgr = self._capture.retrieve()
                if not decoded:
                    break
                time_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield Frame(index, time_s, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB))
                given += 1
            index += 1
        if given == 0:
            raise UnreadableVideo("holds no frame that can be decoded")

    def expected_frames(self, every: int, limit: int | None) -> int | None:
        """Return how many frames `frames` should yield by the container's word; None if it is silent."""
        if self.announced_frames is None:
            return limit
        count = math.ceil(self.announced_frames / every)
        return count if limit is None else min(count, limit)


@contextlib.contextmanager
def write_video(path: Path, frames_per_s: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that appends one frame (uint8 RGB [H,W,3], all of one size) to an MP4 at `path`.

    The file takes its name only once it was read back and holds as many frames as were written, for
    OpenCV's writer tells of no error, a full disk included. Odd sizes gain one repeated row or column:
    the codec halves the colour planes and would cut one off instead. Raises OSError.
    """
    with atomic_path(path) as temporary:
        stream = _Stream(temporary, frames_per_s)
        try:
            yield stream.append
        finally:
            stream.release()
        stream.check(path)


class _Stream:
    def __init__(self, path: Path, frames_per_s: float) -> None:
        self._path = path
        self._frames_per_s = frames_per_s
        self._writer: cv2.VideoWriter | None = None
        self._size: tuple[int, int] | None = None
        self._written = 0

    def append(self, rgb: np.ndarray) -> None:
        height, width = rgb.shape[:2]
        even = cv2.copyMakeBorder(rgb, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        size = (even.shape[1], even.shape[0])
        if self._writer is None:
            self._size = size
            self._writer = cv2.VideoWriter(
                str(self._path.absolute()),
                cv2.CAP_FFMPEG,
                cv2.VideoWriter.fourcc(*OUTPUT_CODEC),
                self._frames_per_s,
                size,
            )
            if not self._writer.isOpened():
                raise OSError(f"OpenCV cannot write {size[0]}x{size[1]} video with codec {OUTPUT_CODEC}")
        if size != self._size:
            raise OSError(f"the frame size changes from {self._size} to {size} inside the video")
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self._written += 1

    def release(self) -> None:
        if self._writer is not None:
            self._writer.release()

    def check(self, path: Path) -> None:
        readable = count_frames(self._path) if self._written else 0
        if readable != self._written:
            raise OSError(f"{readable} of {self._written} frames reached {path}; is the disk full?")


def count_frames(path: Path) -> int:
    """Return how many frames can be read from a video file, 0 if it is none. Nothing is converted."""
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    count = 0
    while capture.grab():
        count += 1
    capture.release()
    return count
