"""The `steel` set: grey strips with four kinds of defects, as often as on Severstal's, in its CSV layout (b).

Class 1 pits, 2 scratches, 3 patches, 4 edge cracks; a picture can hold several or none. Defects spec, section
Data. Written are train_images/*.jpg, train.csv (rows only for defects, run-length masks), splits.json,
stratified 70/15/15, and steel.json, which says what this is.
"""

import csv
import json
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.core.files import atomic_directory
from shared.data.classification_splits import stratified_parts
from shared.data.formats.severstal import APART, read
from shared.data.leaks import read_looks
from shared.data.rle import encode_rle
from shared.data.split_file import SPLIT_FILE_NAME, describe_parts, write_split_file
from shared.data.synthetic.steel_defects import DEFECTS
from shared.data.synthetic.steel_surface import add_distractors, draw_surface, expose_strip

DESCRIPTION = "synthetic steel set"
DESCRIPTION_FILE = "steel.json"
RATIOS = {"train": 70.0, "val": 15.0, "test": 15.0}
# Pictures by the classes they hold, of Severstal's 12,568: 897, 247, 5,150 and 801 for classes 1 to 4.
COMBINATIONS: dict[tuple[int, ...], int] = {
    (): 5902,
    (1,): 769,
    (2,): 195,
    (3,): 4759,
    (4,): 516,
    (1, 2): 35,
    (1, 3): 91,
    (2, 3): 14,
    (2, 4): 1,
    (3, 4): 284,
    (1, 2, 3): 2,
}
_ORDER_STREAM, _PICTURE_STREAM = 0, 1  # separate random streams, so that one never shifts the other

Masks = dict[int, NDArray[np.bool_]]


def generate_steel(
    out: Path,
    *,
    count: int = 3000,
    size: tuple[int, int] = (256, 1600),
    seed: int = 0,
    processes: int | None = None,
    on_image: Callable[[], None] | None = None,
) -> None:
    """Write `count` pictures of `size` (height, width), their labels and their division to the folder `out`.

    processes: default one per processor. The same seed, count and size give the same bytes on the same
    machine, whatever the processes. `on_image` is called after each picture. Appears in one step: raises
    FileExistsError if `out` exists, ValueError for fewer than 20 pictures or sides out of range.
    """
    height, width = size
    if count < 20:
        raise ValueError(f"{count} pictures are too few for four classes and three splits; make 20 at least")
    if not 64 <= height <= 1024 or not 2 * height <= width <= 8192:
        raise ValueError(
            f"size {height}x{width}: a strip has 64 to 1024 rows, and columns from twice as many to 8192"
        )
    chosen = choose_classes(count, np.random.default_rng([seed, _ORDER_STREAM]))
    with atomic_directory(out) as folder:
        (folder / "train_images").mkdir()
        write = partial(_write_picture, folder / "train_images", size, seed)
        rows: list[tuple[str, int, str]] = []
        # Spawned: a fork would carry over locks of OpenCV's threads.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(processes or os.cpu_count() or 1, mp_context=context) as pool:
            for own in pool.map(write, range(count), chosen, chunksize=8):
                rows += own
                if on_image:
                    on_image()
        with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([APART, *rows])
        description = {"description": DESCRIPTION, "seed": seed, "count": count, "size": list(size)}
        (folder / DESCRIPTION_FILE).write_text(json.dumps(description) + "\n")
        dataset = read(folder, None, None)
        parts = stratified_parts(dataset, RATIOS, seed=seed, looks=read_looks(dataset.records))
        write_split_file(folder / SPLIT_FILE_NAME, describe_parts(parts, seed=seed, ratios=RATIOS))


def choose_classes(count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    """Return the classes of each of `count` pictures, in random order and in Severstal's shares.

    Each combination gets its share rounded down; what is left goes to the largest remainders.
    """
    names = list(COMBINATIONS)
    exact = np.array(list(COMBINATIONS.values())) * count / sum(COMBINATIONS.values())
    whole = np.floor(exact).astype(int)
    most_missing = np.argsort(whole - exact, kind="stable")
    whole[most_missing[: count - whole.sum()]] += 1
    pictures = [name for name, number in zip(names, whole, strict=True) for _ in range(number)]
    return [pictures[index] for index in rng.permutation(count)]


def render_strip(
    size: tuple[int, int], classes: tuple[int, ...], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], Masks]:
    """Draw one picture, uint8 [H, W], with the given defects, and the mask of each, bool [H, W].

    A pixel belongs to one class at most, as on Severstal's: to the one drawn last.
    """
    while True:
        surface = draw_surface(size, rng)
        add_distractors(surface, rng)
        masks: Masks = {}
        for number in rng.permutation(np.array(classes, dtype=int)).tolist():
            mask = DEFECTS[number](surface, rng)
            mask[:, : surface.left] = mask[:, surface.right :] = False
            for earlier in masks.values():
                earlier &= ~mask
            masks[number] = mask
        image = expose_strip(surface, rng)
        least = 250 * surface.scale**2  # pixels; fewer are no defect that anyone could see
        if all(mask.sum() >= least for mask in masks.values()):
            return image, masks


def _write_picture(
    folder: Path, size: tuple[int, int], seed: int, index: int, classes: tuple[int, ...]
) -> list[tuple[str, int, str]]:
    """Write one picture; return its rows of train.csv."""
    cv2.setNumThreads(0)  # one process per processor already
    rng = np.random.default_rng([seed, _PICTURE_STREAM, index])
    image, masks = render_strip(size, classes, rng)
    name = f"{index:06d}.jpg"
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(82, 96))]
    (folder / name).write_bytes(cv2.imencode(".jpg", image, quality)[1].tobytes())
    return [(name, number, encode_rle(masks[number])) for number in sorted(masks)]
