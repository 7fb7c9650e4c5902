"""A real run, small enough to be trained in seconds: bright upright rectangles on noise are the people."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from services.export.exporter import export_onnx
from services.export.runs import Run, read_run
from services.export.tasks.detection_graph import DetectionGraph
from shared.config import dump_run_config, validate_run
from shared.families import get_family

SIZE = 64
STEPS = 220


def make_pictures(root: Path, split: str, count: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Write `count` pictures and their COCO labels; return pixels and boxes [n, 4] corners."""
    rng = np.random.default_rng(seed)
    folder = root / split
    folder.mkdir(parents=True)
    images, annotations, made = [], [], []
    for number in range(1, count + 1):
        picture = rng.integers(0, 70, (SIZE, SIZE, 3), dtype=np.uint8)
        boxes = []
        for column in rng.permutation(3)[: rng.integers(1, 3)]:  # one third of the width each: no overlap
            width, height = int(rng.integers(9, 15)), int(rng.integers(22, 36))
            x, y = int(column * 21 + rng.integers(0, 6)), int(rng.integers(2, SIZE - height - 2))
            picture[y : y + height, x : x + width] = rng.integers(170, 250, 3)
            boxes.append([x, y, x + width, y + height])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [x, y, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        cv2.imwrite(str(folder / f"{number:03}.png"), picture[:, :, ::-1])
        images.append({"id": number, "file_name": f"{number:03}.png", "width": SIZE, "height": SIZE})
        made.append((picture, np.array(boxes, np.float32)))
    labels = root / "annotations"
    labels.mkdir(exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    (labels / f"{split}.json").write_text(json.dumps(document))
    return made


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    make_pictures(root / "toy", "val", 24, seed=2)
    return root


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Run:
    """A run of the light person network, trained until it finds most of the rectangles."""
    made = make_pictures(data_root / "toy", "train", 64, seed=1)
    family = get_family("person")
    config = family.config(image_size=SIZE, grid_size=4, depth="light", size_loss="ciou")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = family.build(config)
        optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=STEPS)
        for step in range(STEPS):
            batch = [made[index] for index in np.random.default_rng(step).permutation(len(made))[:8]]
            images = torch.from_numpy(np.stack([picture for picture, _ in batch]))
            boxes = [torch.from_numpy(boxes) for _, boxes in batch]
            labels = [torch.zeros(len(each), dtype=torch.int64) for each in boxes]
            targets = family.encode_targets(config, boxes, labels, (SIZE, SIZE))
            outputs = network(images.permute(0, 3, 1, 2).float() / 255)
            optimizer.zero_grad()
            family.loss(config, outputs, targets)["loss"].backward()
            optimizer.step()
            schedule.step()
    torch.set_num_threads(threads)
    folder = tmp_path_factory.mktemp("runs") / "toy-run"
    folder.mkdir()
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()},
        folder / "weights.safetensors",
    )
    described = {
        "family": "person",
        "recipe": "recommended",
        "model": config.model_dump(mode="json"),
        "data": {"path": "toy"},
    }
    (folder / "config.yaml").write_text(dump_run_config(validate_run(described)))
    (folder / "labels.json").write_text('["person"]')
    return read_run(folder)


def graph_of(run: Run, *, half: bool = False) -> DetectionGraph:
    """Return the graph of a run, in PyTorch."""
    from safetensors.torch import load_file

    family = get_family("person")
    config = family.config(**run.config.model)
    network = family.build(config)
    network.load_state_dict(load_file(run.weights))
    return DetectionGraph(family, config, network, half=half)


@pytest.fixture(scope="session")
def traced(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run's graph as an ONNX file, and the names of its raw outputs: tracing takes seconds."""
    path = tmp_path_factory.mktemp("traced") / "model.onnx"
    return path, export_onnx(graph_of(run), path)
