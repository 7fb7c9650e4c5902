"""The augmentations by name, in the order in which they act, without loading the library behind them.

A name is a field of AugmentationConfig: the probability that a picture gets it. A target is called with the
library and the config and gives one transform, boxes following every geometric one. A new augmentation is a
function, a line here and its field.
"""

from shared.core.registry import Entry, Registry


def _step(name: str, summary: str) -> Entry:
    return Entry(f"shared.data.transforms.steps:{name}", summary)


AUGMENTATIONS = Registry(
    "augmentation",
    {
        "horizontal_flip": _step("horizontal_flip", "Mirror left and right."),
        "vertical_flip": _step("vertical_flip", "Mirror top and bottom."),
        "shift": _step("shift", "Move the picture; what is uncovered is grey like the letterbox."),
        "brightness_contrast": _step("brightness_contrast", "Change brightness and contrast."),
        "gamma": _step("gamma", "Change the gamma."),
        "clahe": _step("clahe", "Equalise contrast locally (CLAHE)."),
        "motion_blur": _step("motion_blur", "Blur along a random direction."),
        "gaussian_noise": _step("gaussian_noise", "Add sensor-like noise."),
    },
)
