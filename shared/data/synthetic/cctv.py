"""The `cctv` set: people-like figures before fixed cameras, with exact boxes, in COCO's layout.

Each split has cameras of its own, so that no background, figure or prop of one is seen in another. A box is
tight around the whole figure, hidden parts included, as far as it lies in the picture. A figure of which less
than half can be seen is marked `iscrowd`, which keeps it out of training and out of AP; one of which nothing
can be seen is left out. Person spec, section Data.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.core.files import atomic_directory
from shared.data.synthetic.camera import SUPERSAMPLING, Camera, Placed, build_camera, place_prop
from shared.data.synthetic.figures import draw_figure
from shared.data.synthetic.light import Light, draw_light, expose
from shared.data.synthetic.sprites import darken, paste
from shared.vision.drawing import encode_jpeg

SPLITS = ("train", "val", "test")
CAMERAS = {"train": 96, "val": 12, "test": 12}
DESCRIPTION = "synthetic cctv set"
MIN_VISIBLE = 0.5
EMPTY_FRAMES = 0.12  # share of frames without anyone
MAX_FIGURES = 9
_CAMERA_STREAM, _FRAME_STREAM = 0, 1  # separate random streams, so that one never shifts the other


@dataclass(frozen=True, slots=True)
class Label:
    """One figure: (x1, y1, x2, y2) in picture pixels and the visible share of the figure, 0..1."""

    box: tuple[float, float, float, float]
    visible: float


def generate_cctv(
    out: Path,
    *,
    count: dict[str, int],
    size: tuple[int, int] = (416, 416),
    seed: int = 0,
    on_image: Callable[[], None] | None = None,
) -> None:
    """Write `count` pictures per split: out/<split>/NNNNNN.jpg and out/annotations/<split>.json.

    size: (height, width) in pixels, 64 at least. The same seed and size give the same bytes on the same
    machine, and a larger count begins with the pictures of a smaller one. `on_image` is called after each.
    Appears in one step: raises FileExistsError if `out` exists, ValueError for unusable counts or sizes.
    """
    if set(count) - set(SPLITS) or min(count.values(), default=0) < 0 or sum(count.values()) == 0:
        raise ValueError(f"count must give pictures for some of {', '.join(SPLITS)}, got {count}")
    if min(size) < 64 or max(size) > 4096:
        raise ValueError(f"size must be from 64 to 4096 pixels a side, got {size}")
    with atomic_directory(out) as folder:
        (folder / "annotations").mkdir()
        for split in SPLITS:
            if count.get(split, 0):
                document = _write_split(folder / split, count[split], size, seed, split, on_image)
                (folder / "annotations" / f"{split}.json").write_text(json.dumps(document))


def render_frame(camera: Camera, rng: np.random.Generator) -> tuple[NDArray[np.uint8], list[Label], Light]:
    """Draw one picture of a camera: uint8 [H, W, 3] RGB, its labels, and the light it was taken in."""
    light = draw_light(rng)
    canvas = camera.background.copy()
    owners = np.zeros(camera.size, np.uint8)
    figures = _figures(camera, rng)
    passing = [place_prop(camera, rng) for _ in range(int(rng.integers(0, 4)))]
    ordered = sorted([*camera.furniture, *passing, *figures], key=lambda placed: placed.y)
    numbers = {id(figure): number for number, figure in enumerate(figures, start=1)}
    for placed in ordered:
        _cast_shadow(canvas, placed, light)
        corner = placed.sprite.placed_at(placed.x, placed.y)
        paste(canvas, owners, placed.sprite, corner, numbers.get(id(placed), 0))
    labels = [measure(figure, number, owners) for number, figure in enumerate(figures, start=1)]
    height, width = camera.size
    small = cv2.resize(
        canvas, (width // SUPERSAMPLING, height // SUPERSAMPLING), interpolation=cv2.INTER_AREA
    )
    return (
        expose(np.asarray(small, np.uint8), light, camera.noise, rng),
        [label for label in labels if label.visible > 0],
        light,
    )


def _write_split(
    folder: Path,
    count: int,
    size: tuple[int, int],
    seed: int,
    split: str,
    on_image: Callable[[], None] | None,
) -> dict[str, Any]:
    folder.mkdir()
    split_number = SPLITS.index(split)
    cameras: dict[int, Camera] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index in range(count):
        number = index % CAMERAS[split]
        if number not in cameras:
            stream = np.random.default_rng([seed, split_number, _CAMERA_STREAM, number])
            cameras[number] = build_camera(size, stream)
        rng = np.random.default_rng([seed, split_number, _FRAME_STREAM, index])
        image, labels, light = render_frame(cameras[number], rng)
        name = f"{index:06d}.jpg"
        (folder / name).write_bytes(encode_jpeg(image, quality=int(rng.integers(70, 96))))
        images.append({"id": index + 1, "file_name": name, "width": size[1], "height": size[0],
                       "camera": f"{split}-{number}", "light": light.name})  # fmt: skip
        for label in labels:
            annotations.append(_annotation(len(annotations) + 1, index + 1, label))
        if on_image:
            on_image()
    return {
        "info": {"description": DESCRIPTION, "seed": seed, "split": split, "size": list(size)},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "supercategory": "person"}],
    }


def _annotation(number: int, image: int, label: Label) -> dict[str, Any]:
    x1, y1, x2, y2 = label.box
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
        "iscrowd": int(label.visible < MIN_VISIBLE),
        "visible": round(label.visible, 3),
    }


def _figures(camera: Camera, rng: np.random.Generator) -> list[Placed]:
    """Stand some figures on the ground, now and then one close to another."""
    if rng.random() < EMPTY_FRAMES:
        return []
    figures: list[Placed] = []
    for _ in range(1 + min(int(rng.poisson(2.6)), MAX_FIGURES - 1)):
        if figures and rng.random() < 0.2:
            near = figures[rng.integers(len(figures))]
            reach = camera.person_height(near.y)
            x = near.x + rng.normal(0, 0.35) * reach
            y = min(camera.near_y, max(camera.far_y, near.y + rng.normal(0, 0.1) * reach))
        else:
            x, y = rng.uniform(0, camera.size[1]), _foot_row(camera, rng)
        child = rng.uniform(0.6, 0.8) if rng.random() < 0.12 else rng.uniform(0.92, 1.08)
        figures.append(Placed(draw_figure(camera.person_height(y) * child, rng), x, y))
    return figures


def _foot_row(camera: Camera, rng: np.random.Generator) -> float:
    """Draw a row so that far and near people are both common: even in rows, or even in log height."""
    if rng.random() < 0.5:
        return rng.uniform(camera.far_y, camera.near_y)
    smallest, largest = camera.person_height(camera.far_y), camera.person_height(camera.near_y)
    return camera.foot_row(float(np.exp(rng.uniform(np.log(smallest), np.log(largest)))))


def _cast_shadow(canvas: NDArray[np.uint8], placed: Placed, light: Light) -> None:
    """Darken the ground: a soft patch under the feet, and in sunshine the outline laid flat."""
    mask = placed.sprite.mask
    height, width = mask.shape
    patch = np.zeros((max(3, height // 12), width), np.uint8)
    cv2.ellipse(
        patch, (width // 2, patch.shape[0] // 2), (width // 2, patch.shape[0] // 2), 0, 0, 360, 255, -1
    )
    left, top = placed.sprite.placed_at(placed.x, placed.y)
    darken(canvas, patch, (left, top + height - patch.shape[0] // 2), 0.3)
    if light.shadow_strength < 0.1:
        return
    flat, slant = 0.35, light.shadow_slant
    lying_height, reach = max(2, round(height * flat)), round(abs(slant) * height * flat)
    start = reach if slant < 0 else 0
    # A point d rows above the feet falls d * flat rows below them and is pushed aside by the slant.
    shear = np.array(
        [[1, -slant * flat, slant * flat * height + start], [0, -flat, flat * height]], np.float32
    )
    lying = cv2.warpAffine(mask, shear, (width + reach, lying_height), flags=cv2.INTER_LINEAR)
    darken(canvas, np.asarray(lying, np.uint8), (left - start, top + height), light.shadow_strength)


def measure(figure: Placed, number: int, owners: NDArray[np.uint8]) -> Label:
    """Measure the box of a figure, and how much of it nothing hides and no edge cuts off."""
    sprite, (height, width) = figure.sprite, owners.shape
    left, top = sprite.placed_at(figure.x, figure.y)
    x1, y1 = max(0, left), max(0, top)
    x2, y2 = min(width, left + sprite.mask.shape[1]), min(height, top + sprite.mask.shape[0])
    if x1 >= x2 or y1 >= y2:
        return Label((0.0, 0.0, 0.0, 0.0), 0.0)
    seen = int(np.count_nonzero(owners[y1:y2, x1:x2] == number))
    x, y, w, h = cv2.boundingRect(sprite.mask[y1 - top : y2 - top, x1 - left : x2 - left])
    scale = SUPERSAMPLING
    box = ((x1 + x) / scale, (y1 + y) / scale, (x1 + x + w) / scale, (y1 + y + h) / scale)
    return Label(box, seen / cv2.countNonZero(sprite.mask))
