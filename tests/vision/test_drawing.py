import io

import numpy as np
from PIL import Image

from shared.vision.boxes import Detections, as_boxes
from shared.vision.drawing import PALETTE, draw_detections, encode_jpeg


def test_the_frame_lies_on_the_box_and_the_picture_given_is_untouched() -> None:
    image = np.full((200, 300, 3), 50, np.uint8)
    detections = Detections(as_boxes([[100, 80, 200, 180]]), np.array([0.875], np.float32), np.array([0]))
    drawn = draw_detections(image, detections, ["person"])
    assert (image == 50).all()
    for row, column in ((179, 150), (130, 100), (130, 199)):
        assert tuple(drawn[row, column]) == PALETTE[0]
    assert (drawn[130, 150] == 50).all()


def test_captions_stay_inside_at_every_corner() -> None:
    image = np.full((60, 80, 3), 50, np.uint8)
    boxes = as_boxes([[0, 0, 80, 60], [70, 0, 80, 10], [-10, 50, 20, 90]])
    detections = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), np.array([0, 5, 99]))
    drawn = draw_detections(image, detections, ["person"])  # labels beyond the names are drawn as numbers
    assert drawn.shape == image.shape
    assert not np.array_equal(drawn, image)


def test_jpeg_keeps_colours_in_rgb_order() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0] = 250
    decoded = np.asarray(Image.open(io.BytesIO(encode_jpeg(image, 95))).convert("RGB"))
    assert np.abs(decoded.astype(int) - image).max() <= 6
