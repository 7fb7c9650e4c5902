"""From encoded pictures to the input of a graph, as a manifest states it; the same for every task."""

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.problems import EmptyPicture, NotAPicture, PictureTooLarge, TruncatedPicture
from services.detector.dataplane.session import Tensors
from shared.repository.manifest import Manifest, Preprocessing
from shared.vision.decode import ImageTooLarge, NotAnImage, TruncatedImage, decode_image
from shared.vision.letterbox import Letterbox, letterbox


class PictureInput:
    """Decodes and letterboxes pictures for the one input of a version's graph."""

    def __init__(self, manifest: Manifest, *, max_pixels: int) -> None:
        preprocessing = manifest.preprocessing
        assert isinstance(preprocessing, Preprocessing)  # the manifest refuses a picture model without
        self._input = manifest.inputs[0].name
        self._size = (preprocessing.height, preprocessing.width)
        self._pad_value = preprocessing.pad_value
        self._max_pixels = max_pixels

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """Return the picture uint8 [H, W, 3] RGB, or raise the problem with it."""
        if not data:
            raise EmptyPicture("there are no bytes; send a JPEG, PNG, WebP or BMP picture as the body")
        try:
            return decode_image(data, max_pixels=self._max_pixels)
        except ImageTooLarge as error:
            raise PictureTooLarge(str(error), limit_pixels=self._max_pixels) from error
        except TruncatedImage as error:
            raise TruncatedPicture(str(error)) from error
        except NotAnImage as error:
            raise NotAPicture(str(error)) from error

    def letterbox(self, image: NDArray[np.uint8]) -> tuple[Tensors, Letterbox]:
        """Return the graph's input uint8 [1, height, width, 3] and the geometry that leads back."""
        square, geometry = letterbox(image, self._size, pad_value=self._pad_value)
        return {self._input: square[None]}, geometry
