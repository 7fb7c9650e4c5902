import cv2
import numpy as np
import pytest

from shared.vision.boxes import as_boxes
from shared.vision.letterbox import fit_letterbox, letterbox


def test_a_wide_picture_is_centred_between_bars_of_the_pad_value() -> None:
    image, geometry = letterbox(np.full((100, 200, 3), 7, np.uint8), (400, 400), pad_value=114)
    assert image.shape == (400, 400, 3)
    assert (geometry.scale, geometry.pad_x, geometry.pad_y) == (2.0, 0, 100)
    assert (image[:100] == 114).all()
    assert (image[300:] == 114).all()
    assert (image[100:300] == 7).all()


def test_boxes_follow_the_pixels() -> None:
    """A filled rectangle is found again where its box was mapped to."""
    source = np.zeros((300, 500, 3), np.uint8)
    source[50:150, 100:300] = 255
    for size in ((416, 416), (200, 608), (96, 64)):
        image, geometry = letterbox(source, size, pad_value=0)
        x, y, w, h = cv2.boundingRect((image[..., 0] > 127).astype(np.uint8))
        mapped = geometry.to_letterboxed(as_boxes([[100, 50, 300, 150]]))[0]
        np.testing.assert_allclose(mapped, [x, y, x + w, y + h], atol=0.75)


@pytest.mark.parametrize("source", [(480, 640), (1080, 1920), (333, 77), (1, 65_535), (65_535, 1), (1, 1)])
@pytest.mark.parametrize("target", [(416, 416), (320, 640), (16, 16)])
def test_boxes_come_back_where_they_were(source: tuple[int, int], target: tuple[int, int]) -> None:
    height, width = source
    geometry = fit_letterbox(source, target)
    box = as_boxes([[0.1 * width, 0.2 * height, 0.7 * width, 0.9 * height]])
    np.testing.assert_allclose(
        geometry.to_source(geometry.to_letterboxed(box)), box, atol=1e-5 * max(source) + 1e-4
    )
    image, _ = letterbox(np.zeros((*source, 3), np.uint8), target)
    assert image.shape == (*target, 3)
    assert image.flags.c_contiguous


def test_boxes_are_clipped_to_the_source() -> None:
    geometry = fit_letterbox((100, 200), (400, 400))
    assert geometry.to_source(as_boxes([[-50, 0, 500, 400]])).tolist() == [[0, 0, 200, 100]]


def test_shrinking_keeps_the_mean_of_fine_detail() -> None:
    """One-pixel stripes become grey; sampling single pixels would turn them black or white."""
    stripes = np.zeros((1080, 1920, 3), np.uint8)
    stripes[:, ::2] = 255
    image, geometry = letterbox(stripes, (416, 416))
    height, _ = geometry.resized_size
    inside = image[geometry.pad_y : geometry.pad_y + height]
    assert abs(inside.mean() - 127.5) < 2
    assert inside.std() < 4


def test_a_picture_of_the_right_size_is_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    same, geometry = letterbox(image, (64, 96))
    assert (same == image).all()
    assert geometry.scale == 1


def test_sides_below_one_pixel_are_refused() -> None:
    with pytest.raises(ValueError, match="below 1 pixel"):
        fit_letterbox((0, 10), (416, 416))
