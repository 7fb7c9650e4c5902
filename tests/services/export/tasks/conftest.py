"""A real classification run, small enough to be trained in seconds: bands on noise are the classes."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from services.export.exporter import export_onnx
from services.export.runs import Run, read_run
from services.export.tasks.classification import ClassificationGraph
from shared.config import dump_run_config, validate_run
from shared.data.formats.classification import read_classification_set
from shared.data.rle import encode_rle
from shared.data.split_file import describe_parts, write_split_file
from shared.families.defects.config import DefectsConfig
from shared.families.defects.family import DEFECTS

HEIGHT, WIDTH = 64, 96
NAMES = ["1", "2"]  # an upright bright band, a lying dark band
TRAIN, VAL = 64, 56
STEPS = 150


def draw(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return a picture, uint8 [H, W], and the mask of each band that it holds."""
    picture = rng.integers(90, 130, (HEIGHT, WIDTH), dtype=np.uint8)
    column, row = int(rng.integers(8, WIDTH - 16)), int(rng.integers(8, HEIGHT - 16))
    masks = {}
    for name, area, value in (
        ("1", np.s_[:, column : column + 8], 220),
        ("2", np.s_[row : row + 8, :], 20),
    ):
        if rng.random() < 0.4:
            picture[area] = value
            masks[name] = np.zeros((HEIGHT, WIDTH), bool)
            masks[name][area] = True
    return picture, masks


def make_pictures(folder: Path) -> None:
    """Write pictures and train.csv in Severstal's layout."""
    rng = np.random.default_rng(0)
    (folder / "train_images").mkdir(parents=True)
    rows = []
    for number in range(TRAIN + VAL):
        picture, masks = draw(rng)
        rows += [[f"{number:03}.png", name, encode_rle(mask)] for name, mask in masks.items()]
        cv2.imwrite(str(folder / "train_images" / f"{number:03}.png"), picture)
    with (folder / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["ImageId", "ClassId", "EncodedPixels"], *rows])


def drawn_batch(seed: int, count: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images float [N, 3, H, W] in 0..1 and labels float [N, 2]; every seed draws others."""
    rng = np.random.default_rng([1, seed])
    pictures, masks = zip(*(draw(rng) for _ in range(count)), strict=True)
    images = torch.from_numpy(np.stack(pictures)).float()[:, None].expand(-1, 3, -1, -1) / 255
    return images, torch.tensor([[float(name in held) for name in NAMES] for held in masks])


@pytest.fixture(scope="session")
def labels_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels-data")
    make_pictures(root / "bands")
    return root


@pytest.fixture(scope="session")
def labels_run(tmp_path_factory: pytest.TempPathFactory, labels_root: Path) -> Run:
    """A run of the smallest network, trained until it tells most of the bands."""
    config = DefectsConfig(
        architecture="convnext_zepto_cbam",
        height=HEIGHT,
        width=WIDTH,
        class_names=NAMES,
        layer_scale=0.1,
        loss="bce",
        stochastic_depth=0.0,
    )
    data = read_classification_set(labels_root / "bands", class_names=NAMES)
    records = sorted(data.records, key=lambda record: record.image_id)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DEFECTS.build(config)
        loss = DEFECTS.build_loss(config, data.class_counts(), len(data))
        optimizer = torch.optim.AdamW(network.parameters(), lr=6e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-4, total_steps=STEPS)
        for step in range(STEPS):
            images, truth = drawn_batch(step)
            optimizer.zero_grad()
            loss(network(images), truth)["loss"].backward()
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    folder = tmp_path_factory.mktemp("label-runs") / "bands-run"
    folder.mkdir()
    weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(weights, folder / "weights.safetensors")
    described = {
        "family": "defects",
        "recipe": "recommended",
        "model": config.model_dump(mode="json"),
        "data": {"path": "bands"},
        "trainer": {"monitor": "macro_f1"},
    }
    (folder / "config.yaml").write_text(dump_run_config(validate_run(described)))
    (folder / "labels.json").write_text(json.dumps(NAMES))
    (folder / "thresholds.json").write_text(json.dumps({"probability": [0.45, 0.55], "class_names": NAMES}))
    parts = {"train": records[:TRAIN], "val": records[TRAIN:]}
    sets = {name: type(data)(part, NAMES, data.source) for name, part in parts.items()}
    write_split_file(folder / "splits.json", describe_parts(sets, seed=0, ratios=None))
    return read_run(folder)


def labels_graph(run: Run, *, half: bool = False) -> ClassificationGraph:
    """Return the graph of a run, in PyTorch."""
    from safetensors.torch import load_file

    config = DefectsConfig(**run.config.model)
    network = DEFECTS.build(config)
    network.load_state_dict(load_file(run.weights))
    return ClassificationGraph(DEFECTS, config, network, half=half)


@pytest.fixture(scope="session")
def labels_traced(labels_run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run's graph as an ONNX file, and the names of its raw outputs: tracing takes seconds."""
    path = tmp_path_factory.mktemp("labels-traced") / "model.onnx"
    return path, export_onnx(labels_graph(labels_run), path)
