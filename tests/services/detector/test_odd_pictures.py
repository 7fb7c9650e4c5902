"""Pictures that are unusual and right: each gives what the same pixels give in a plain file."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.services.detector.pictures import BLUE_BOX, RED_BOX, boxes, encode, labels, two_rectangles
from tests.services.detector.serving import Served

RGB = Image.fromarray(two_rectangles())


def sixteen_bit_grey() -> bytes:
    """One rectangle, 16 bits per pixel: 257 times the value of 8 bits."""
    grey = np.full((96, 96), 30 * 257, np.uint16)
    grey[5:18, 4:20] = 255 * 257
    return encode(Image.fromarray(grey))


def transparent() -> Image.Image:
    """The rectangles opaque, the dark ground as it is."""
    picture = RGB.convert("RGBA")
    picture.putalpha(255)
    return picture


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encode(RGB, "BMP"), id="bmp"),
        pytest.param(encode(RGB, "WEBP", lossless=True), id="webp"),
        pytest.param(encode(RGB, "JPEG", quality=100, subsampling=0), id="jpeg"),
        pytest.param(
            encode(RGB, "JPEG", quality=100, subsampling=0, progressive=True), id="progressive jpeg"
        ),
        pytest.param(encode(RGB.convert("CMYK"), "JPEG", quality=100), id="cmyk jpeg"),
        pytest.param(encode(RGB.quantize(8)), id="palette png"),
        pytest.param(encode(transparent()), id="png with alpha"),
    ],
)
def test_every_kind_of_file_gives_the_same_detections(served: Served, data: bytes) -> None:
    answer = served.detect(data).json()
    assert boxes(answer) == [RED_BOX, BLUE_BOX]
    assert labels(answer) == ["red", "blue"]


def test_sixteen_bits_are_scaled_to_eight(served: Served) -> None:
    answer = served.detect(sixteen_bit_grey()).json()
    assert boxes(answer) == [RED_BOX]
    assert answer["detections"][0]["score"] == 1.0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif_is_applied_so_that_boxes_mean_what_people_see(
    served: Served, orientation: int
) -> None:
    turns: dict[int, Any] = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,  # stored turned to the left, shown turned to the right
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = RGB.crop((0, 0, 96, 48))
    stored = upright.transpose(turns[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    answer = served.detect(encode(stored, "JPEG", quality=100, subsampling=0, exif=exif)).json()
    assert answer["image"] == {"width": 96, "height": 48}
    assert boxes(answer) == [RED_BOX]


@pytest.mark.parametrize("size", [(1, 1), (1, 65_535), (65_535, 1), (3, 2)])
def test_extreme_sizes_are_answered_with_boxes_inside_the_picture(
    served: Served, size: tuple[int, int]
) -> None:
    response = served.detect(encode(Image.new("RGB", size, (255, 0, 0))), score_threshold=0)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["image"]["width"], answer["image"]["height"]) == size
    for x1, y1, x2, y2 in boxes(answer):
        assert 0 <= x1 <= x2 <= size[0]
        assert 0 <= y1 <= y2 <= size[1]
