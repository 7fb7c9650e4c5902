"""What `sightline predict` asks of whatever does the predicting, here or on a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from shared.vision.decode import decode_image
from shared.vision.drawing import encode_jpeg

# Frames travel to a server as JPEG; at this quality boxes move by fractions of a pixel.
FRAME_JPEG_QUALITY = 95


class PictureRefused(ValueError):
    """One picture that cannot be predicted on, in words for the user; others may go on."""


class Picture:
    """A picture as its file's bytes, as pixels, or as both; each is made from the other when asked for."""

    def __init__(self, *, data: bytes | None = None, rgb: np.ndarray | None = None) -> None:
        if data is None and rgb is None:
            raise ValueError("a picture needs bytes or pixels")
        self._data, self._rgb = data, rgb

    @cached_property
    def rgb(self) -> np.ndarray:
        """Pixels as uint8 [H,W,3]. Raises PictureRefused if the bytes are no readable picture."""
        if self._rgb is not None:
            return self._rgb
        assert self._data is not None
        try:
            return decode_image(self._data)
        except ValueError as error:
            raise PictureRefused(str(error)) from error

    @cached_property
    def encoded(self) -> bytes:
        """The file's bytes, or the pixels as a JPEG."""
        if self._data is not None:
            return self._data
        assert self._rgb is not None
        return encode_jpeg(self._rgb, FRAME_JPEG_QUALITY)


class UnsupportedAnswer(ValueError):
    """An option that a model of this task cannot follow, in words for the user."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for on the command line; `thresholds` holds only those that were given."""

    thresholds: Mapping[str, float | int] = field(default_factory=dict)
    heatmap: bool = False


class Prediction(Protocol):
    """What was found in one picture of `width` x `height` pixels, and the model version that found it."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    @property
    def version(self) -> int: ...

    @property
    def found(self) -> int:
        """How many things were found."""

    def describe(self) -> list[dict[str, Any]]:
        """Return what was found in JSON's types, as the detector's HTTP answers state it."""

    def draw(self, rgb: np.ndarray) -> np.ndarray:
        """Return a copy of the picture, uint8 [H,W,3], with what was found drawn in."""


class Predictor(Protocol):
    """Something that predicts on pictures; `predict` may be called from `concurrency` threads at once."""

    model: str
    concurrency: int
    finds: str  # "detections" or "labels": what documents and summaries call it

    @property
    def source(self) -> str:
        """Where the predicting happens, for the summary."""

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction | PictureRefused]:
        """Return one result per picture, in order."""

    def close(self) -> None:
        """Let go of sessions or connections."""
