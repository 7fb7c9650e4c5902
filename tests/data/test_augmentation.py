import albumentations
import cv2
import numpy as np
import pytest

from shared.config.schema import AugmentationConfig
from shared.config.task_keys import TASK_KEYS
from shared.data.transforms import build_augmentation, sample_generator
from shared.data.transforms.registry import AUGMENTATIONS
from shared.vision.letterbox import PAD_VALUE

RECOMMENDED = {
    "horizontal_flip": 0.5,
    "brightness_contrast": 0.5,
    "gaussian_noise": 0.3,
    "motion_blur": 0.3,
    "gamma": 0.3,
    "clahe": 0.2,
}
BOXES = np.array([[10, 20, 40, 90], [100, 30, 120, 60]], np.float32)
LABELS = np.array([0, 1])


@pytest.fixture
def image() -> np.ndarray:
    """A grey picture with one white rectangle over the first box."""
    picture = np.full((120, 160, 3), 90, np.uint8)
    picture[20:90, 10:40] = 255
    return picture


def only(**probabilities: float):
    return build_augmentation(AugmentationConfig(**probabilities))


def test_a_flip_takes_the_boxes_along(image: np.ndarray) -> None:
    flipped, boxes, labels = only(horizontal_flip=1.0)(image, BOXES, LABELS, np.random.default_rng(0))
    assert (flipped == image[:, ::-1]).all()
    np.testing.assert_allclose(boxes, [[120, 20, 150, 90], [40, 30, 60, 60]], atol=1e-4)
    assert labels.tolist() == [0, 1]
    x, y, w, h = cv2.boundingRect((flipped[..., 0] == 255).astype(np.uint8))
    np.testing.assert_allclose(boxes[0], [x, y, x + w, y + h], atol=1e-4)


def test_a_vertical_flip_takes_the_boxes_along(image: np.ndarray) -> None:
    flipped, boxes, labels = only(vertical_flip=1.0)(image, BOXES, LABELS, np.random.default_rng(0))
    assert (flipped == image[::-1]).all()
    np.testing.assert_allclose(boxes, [[10, 30, 40, 100], [100, 60, 120, 90]], atol=1e-4)
    assert labels.tolist() == [0, 1]


def test_a_shift_takes_the_boxes_along_and_uncovers_grey(image: np.ndarray) -> None:
    moves = set()
    for seed in range(40):
        shift = only(shift=1.0, shift_fraction=0.05)
        moved, boxes, _ = shift(image, BOXES[:1], LABELS[:1], np.random.default_rng(seed))
        dx, dy = boxes[0, :2] - BOXES[0, :2]
        assert abs(dx) <= 0.05 * 160 + 1e-3
        assert abs(dy) <= 0.05 * 120 + 1e-3
        bright = (moved[..., 0] > 170).astype(np.uint8)
        x, y, w, h = cv2.boundingRect(bright)
        np.testing.assert_allclose(boxes[0], [x, y, x + w, y + h], atol=1.01)
        if dx >= 2:
            assert (moved[:, 0] == PAD_VALUE).all()
        moves.add((round(float(dx)), round(float(dy))))
    assert len(moves) > 20


def test_a_box_that_is_shifted_out_goes_with_its_label(image: np.ndarray) -> None:
    corner = np.array([[0, 0, 2, 2], [60, 40, 90, 80]], np.float32)
    kept = [
        only(shift=1.0, shift_fraction=0.3)(image, corner, LABELS, np.random.default_rng(seed))[2].tolist()
        for seed in range(20)
    ]
    assert [1] in kept
    assert all(1 in labels for labels in kept)


def test_every_registered_augmentation_is_a_probability_of_the_config_for_pictures() -> None:
    for name in AUGMENTATIONS:
        changed = AugmentationConfig(**{name: 1.0})
        assert getattr(changed, name) == 1.0
        assert AUGMENTATIONS.load(name)(albumentations, changed).p == 1.0
        assert AUGMENTATIONS.entry(name).summary
    of_clips = {
        key
        for (section, key), tasks in TASK_KEYS.items()
        if section == "augmentation" and "detection" not in tasks
    }
    probabilities = {
        name
        for name in AugmentationConfig.model_fields
        if not name.endswith(("_limit", "_std", "_px", "_min", "_max", "_fraction", "_factor", "_hz"))
    }
    assert probabilities - of_clips == set(AUGMENTATIONS)


@pytest.mark.parametrize("name", ["brightness_contrast", "gaussian_noise", "motion_blur", "gamma", "clahe"])
def test_steps_that_change_pixels_leave_boxes_alone(name: str, image: np.ndarray) -> None:
    changed, boxes, _ = only(**{name: 1.0})(image, BOXES, LABELS, np.random.default_rng(3))
    assert changed.shape == image.shape
    assert changed.dtype == np.uint8
    assert not np.array_equal(changed, image)
    np.testing.assert_allclose(boxes, BOXES, atol=1e-4)


def test_motion_blur_is_no_longer_than_asked_for() -> None:
    line = np.zeros((41, 41, 3), np.uint8)
    line[20, 20] = 255
    augment = build_augmentation(AugmentationConfig(motion_blur=1.0, motion_blur_px=6))
    spans = [
        np.argwhere(augment(line, BOXES[:0], LABELS[:0], np.random.default_rng(seed))[0][..., 0])
        for seed in range(100)
    ]
    assert max(int((lit.max(axis=0) - lit.min(axis=0)).max()) + 1 for lit in spans) == 5


def test_brightness_stays_within_its_limit() -> None:
    flat = np.full((32, 32, 3), 100, np.uint8)
    augment = build_augmentation(AugmentationConfig(brightness_contrast=1.0, brightness_contrast_limit=0.3))
    means = [
        augment(flat, BOXES[:0], LABELS[:0], np.random.default_rng(seed))[0].mean() for seed in range(200)
    ]
    # contrast scales by 0.7..1.3, brightness adds up to 0.3 of 255
    assert min(means) >= 100 * 0.7 - 0.3 * 255 - 1
    assert max(means) <= 100 * 1.3 + 0.3 * 255 + 1
    assert max(means) - min(means) > 80


def test_noise_is_no_stronger_than_asked_for() -> None:
    flat = np.full((128, 128, 3), 128, np.uint8)
    augment = build_augmentation(AugmentationConfig(gaussian_noise=1.0, gaussian_noise_std=0.05))
    deviations = [
        augment(flat, BOXES[:0], LABELS[:0], np.random.default_rng(seed))[0].std() for seed in range(60)
    ]
    assert max(deviations) < 0.05 * 255 * 1.05
    assert max(deviations) > 0.05 * 255 * 0.7


def test_probabilities_are_kept(image: np.ndarray) -> None:
    augment = only(horizontal_flip=0.3)
    flipped = sum(
        not np.array_equal(augment(image, BOXES, LABELS, np.random.default_rng(seed))[0], image)
        for seed in range(600)
    )
    assert abs(flipped / 600 - 0.3) < 4 * (0.3 * 0.7 / 600) ** 0.5  # four standard deviations


def test_the_same_generator_repeats_and_the_order_of_calls_does_not_matter(image: np.ndarray) -> None:
    augment = only(**RECOMMENDED)
    keys = [(0, epoch, index) for epoch in range(3) for index in range(10)]
    first = {key: augment(image, BOXES, LABELS, sample_generator(*key)) for key in keys}
    again = only(**RECOMMENDED)
    for key in reversed(keys):
        pixels, boxes, _ = again(image, BOXES, LABELS, sample_generator(*key))
        assert (pixels == first[key][0]).all()
        assert (boxes == first[key][1]).all()
    assert len({result[0].tobytes() for result in first.values()}) > 20


def test_nothing_asked_for_nothing_changed(image: np.ndarray) -> None:
    same, boxes, labels = only()(image, BOXES, LABELS, np.random.default_rng(0))
    assert same is image
    assert boxes is BOXES
    assert labels is LABELS


def test_pictures_without_boxes(image: np.ndarray) -> None:
    _, boxes, labels = only(**RECOMMENDED)(image, BOXES[:0], LABELS[:0], np.random.default_rng(0))
    assert boxes.shape == (0, 4)
    assert boxes.dtype == np.float32
    assert labels.dtype == np.int64
