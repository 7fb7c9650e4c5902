"""One function per augmentation: (the albumentations module, AugmentationConfig) -> its transform."""

from typing import Any

from shared.config.schema import AugmentationConfig
from shared.vision.letterbox import PAD_VALUE


def horizontal_flip(library: Any, config: AugmentationConfig) -> Any:
    """Mirror left and right."""
    return library.HorizontalFlip(p=config.horizontal_flip)


def vertical_flip(library: Any, config: AugmentationConfig) -> Any:
    """Mirror top and bottom."""
    return library.VerticalFlip(p=config.vertical_flip)


def shift(library: Any, config: AugmentationConfig) -> Any:
    """Move by up to `shift_fraction` of each side, each direction drawn for itself."""
    limit = config.shift_fraction
    reach = {"x": (-limit, limit), "y": (-limit, limit)}
    return library.Affine(translate_percent=reach, fill=PAD_VALUE, p=config.shift)


def brightness_contrast(library: Any, config: AugmentationConfig) -> Any:
    """Scale about zero and add, each by up to the limit."""
    limit = config.brightness_contrast_limit
    return library.RandomBrightnessContrast(limit, limit, p=config.brightness_contrast)


def gamma(library: Any, config: AugmentationConfig) -> Any:
    """Raise to a power between the two gammas."""
    return library.RandomGamma((config.gamma_min * 100, config.gamma_max * 100), p=config.gamma)


def clahe(library: Any, config: AugmentationConfig) -> Any:
    """Equalise contrast locally."""
    return library.CLAHE(p=config.clahe)


def motion_blur(library: Any, config: AugmentationConfig) -> Any:
    """Blur along a random direction over at most `motion_blur_px`."""
    longest_px = config.motion_blur_px - (config.motion_blur_px + 1) % 2  # odd, as every kernel is
    return library.MotionBlur((3, longest_px), p=config.motion_blur)


def gaussian_noise(library: Any, config: AugmentationConfig) -> Any:
    """Add noise whose deviation is drawn from 0 to `gaussian_noise_std`."""
    return library.GaussNoise(std_range=(0.0, config.gaussian_noise_std), p=config.gaussian_noise)
