"""Bring the picture of a record into memory, with an error that names the file."""

import numpy as np
from numpy.typing import NDArray

from shared.data.classification import ClassificationRecord
from shared.data.dataset import DetectionRecord
from shared.data.formats.errors import DatasetUnreadable
from shared.vision.decode import decode_image


def load_image(record: DetectionRecord | ClassificationRecord) -> NDArray[np.uint8]:
    """Return the record's picture, uint8 [H, W, 3] RGB, upright.

    Raises DatasetUnreadable where the file is missing or broken, or has another size than its labels say:
    boxes would then lie in the wrong place.
    """
    return load_picture(record)[1]


def load_picture(record: DetectionRecord | ClassificationRecord) -> tuple[bytes, NDArray[np.uint8]]:
    """Return the file's bytes and what `load_image` returns; raises like it."""
    hint = "see `sightline data check` for the whole set"
    try:
        data = record.image_path.read_bytes()
        image = decode_image(data)
    except (OSError, ValueError) as error:
        raise DatasetUnreadable(f"{record.image_path} cannot be used: {error}; {hint}") from error
    if image.shape[:2] != (record.height, record.width):
        raise DatasetUnreadable(
            f"{record.image_path} has {image.shape[1]} x {image.shape[0]} pixels after EXIF rotation, "
            f"its labels are for {record.width} x {record.height}; {hint}"
        )
    return data, image
