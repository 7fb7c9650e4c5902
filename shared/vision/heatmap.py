"""Where in a picture a label is seen: a class-activation map, brought back to the source and laid over it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.vision.letterbox import Letterbox

# How much of the picture the strongest place covers; what is cold stays as it is.
_STRONGEST_ALPHA = 0.65


def heat_on_source(activations: NDArray[np.float32], geometry: Letterbox) -> NDArray[np.float32]:
    """Return how strongly each pixel of the source speaks for a label: float32 [H, W] in 0..1.

    activations: float32 [h, w] over the letterboxed picture, positive where a place speaks for the label, as
    the maps whose mean is its logit (Zhou et al. 2016). As in Grad-CAM (Selvaraju et al. 2017) negative
    places count as 0 and the strongest one as 1; without a positive one all are 0. The padding is cut off.
    """
    height, width = geometry.target_size
    positive = np.maximum(activations, 0)
    large = np.asarray(cv2.resize(positive, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
    inner_height, inner_width = geometry.resized_size
    inner = large[geometry.pad_y :, geometry.pad_x :][:inner_height, :inner_width]
    source_height, source_width = geometry.source_size
    heat = np.asarray(cv2.resize(inner, (source_width, source_height), interpolation=cv2.INTER_LINEAR))
    strongest = float(heat.max(initial=0.0))
    return np.asarray(heat / strongest if strongest > 0 else np.zeros_like(heat), np.float32)


def draw_heat(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a copy of `image` (uint8 [H, W, 3] RGB) under `heat` (float32 [H, W] in 0..1)."""
    colours = cv2.applyColorMap((heat * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = _STRONGEST_ALPHA * heat[..., None]
    mixed = image * (1 - alpha) + cv2.cvtColor(colours, cv2.COLOR_BGR2RGB) * alpha
    return np.asarray(mixed.round(), np.uint8)


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Return `image` (uint8 [H, W, 3] RGB) as a PNG file."""
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"OpenCV cannot write a picture of {image.shape} as PNG")
    return data.tobytes()
