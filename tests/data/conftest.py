import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data.synthetic.cctv import generate_cctv


def picture(path: Path, width: int = 64, height: int = 48, seed: int = 0, exif: int | None = None) -> Path:
    """Write a picture of coloured blocks, different for every seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)
    options = {}
    if exif is not None:
        tags = Image.Exif()
        tags[0x0112] = exif
        options["exif"] = tags
    image.save(path, **options)
    return path


WritePicture = Callable[..., Path]
WriteCoco = Callable[..., Path]


@pytest.fixture
def write_picture() -> WritePicture:
    return picture


@pytest.fixture
def write_coco(tmp_path: Path) -> WriteCoco:
    """Write annotations/<split>.json; boxes are {picture number: [[left, top, width, height], ...]}."""

    def write(boxes: dict[int, list[list[float]]], split: str = "train", **changes: object) -> Path:
        annotations = [
            {"id": 100 * image + number, "image_id": image, "category_id": 7, "bbox": box, "iscrowd": 0}
            for image, rows in boxes.items()
            for number, box in enumerate(rows)
        ]
        document = {
            "images": [
                {"id": image, "file_name": f"{image}.png", "width": 64, "height": 48} for image in boxes
            ],
            "annotations": annotations,
            "categories": [{"id": 7, "name": "person"}, {"id": 3, "name": "dog"}],
        } | changes
        file = tmp_path / "annotations" / f"{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document))
        for image in boxes:
            picture(tmp_path / split / f"{image}.png", seed=image + 1000 * len(split))
        return tmp_path

    return write


@pytest.fixture(scope="session")
def cctv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small generated set that tests only read."""
    out = tmp_path_factory.mktemp("data") / "cctv"
    generate_cctv(out, count={"train": 120, "val": 24, "test": 24}, size=(208, 208), seed=5)
    return out
