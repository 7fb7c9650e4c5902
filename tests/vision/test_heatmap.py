"""Heat lies where the map is positive, in the source's pixels, and leaves cold places as they are."""

import cv2
import numpy as np
import pytest

from shared.vision.drawing import draw_captions
from shared.vision.heatmap import draw_heat, encode_png, heat_on_source
from shared.vision.letterbox import fit_letterbox


def test_one_warm_place_is_found_in_the_source_whatever_the_letterbox() -> None:
    # 100 x 200 into 64 x 64: 32 rows of picture between 16 rows of padding, scale 0.32.
    geometry = fit_letterbox((100, 200), (64, 64))
    activations = np.full((8, 8), -2, np.float32)
    activations[3, 6] = 5  # source rows 25 to 50, columns 150 to 175
    heat = heat_on_source(activations, geometry)
    assert heat.shape == (100, 200)
    assert heat.dtype == np.float32
    assert (heat.min(), heat.max()) == (0.0, 1.0)
    rows, columns = np.nonzero(heat > 0.5)
    assert rows.mean() == pytest.approx(37.5, abs=3)
    assert columns.mean() == pytest.approx(162.5, abs=3)


def test_warmth_in_the_padding_alone_is_no_warmth() -> None:
    activations = np.full((8, 8), -2, np.float32)
    activations[0, :] = 9
    heat = heat_on_source(activations, fit_letterbox((100, 200), (64, 64)))
    assert not heat.any()


def test_the_scale_is_the_pictures_own() -> None:
    geometry = fit_letterbox((64, 64), (64, 64))
    activations = np.zeros((4, 4), np.float32)
    activations[1, 1], activations[2, 3] = 4, 2
    once, twice = heat_on_source(activations, geometry), heat_on_source(activations * 2, geometry)
    np.testing.assert_allclose(once, twice, atol=1e-6)
    assert once[40, 60] == pytest.approx(0.5, abs=0.05)


def test_cold_pixels_stay_and_warm_ones_change_by_their_heat() -> None:
    image = np.full((4, 6, 3), 100, np.uint8)
    heat = np.zeros((4, 6), np.float32)
    heat[0, 0], heat[0, 1] = 1.0, 0.4
    drawn = draw_heat(image, heat).astype(int)
    assert (drawn[1:] == 100).all()
    assert (drawn[0, 2:] == 100).all()
    assert drawn[0, 0, 0] > drawn[0, 1, 0] > 100  # warmer is lighter
    assert (image == 100).all()


def test_a_png_keeps_every_pixel_in_its_colours() -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    read = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), image)


def test_captions_stand_below_each_other_from_the_corner() -> None:
    image = np.full((200, 300, 3), 50, np.uint8)
    one, two = (draw_captions(image, ["rolled 0.91", "pit 0.55"][:count], [0, 3][:count]) for count in (1, 2))
    first = np.flatnonzero((one != image).any(axis=(1, 2)))
    both = np.flatnonzero((two != image).any(axis=(1, 2)))
    assert first[0] == 0
    assert len(both) == pytest.approx(2 * len(first), abs=2)
    assert np.array_equal(one[: first[-1]], two[: first[-1]])  # the strips share their edge
    assert (one[0, 0] == (213, 94, 0)).all()  # the palette's first colour
    assert (two[both[-1], 0] == (240, 228, 66)).all()
