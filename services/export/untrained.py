"""Versions of the person network with random weights, for timing alone.

`python -m services.export.untrained REPOSITORY NAME DEPTH [PRECISION …]`, for instance with base fp32 int8.
They cost what the trained network costs and find nothing of meaning. No gate would let them pass: this
writes to the folder it is given, which is a benchmark's own.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from services.export.exporter import export_onnx
from services.export.quantize import quantize
from services.export.raw_outputs import hide
from services.export.tasks.detection_graph import DetectionGraph
from services.export.tasks.picture_graph import INPUT
from shared.data.synthetic.cctv import generate_cctv
from shared.families.person.config import PersonConfig
from shared.families.person.family import PERSON
from shared.repository.manifest import (
    MODEL_FILE,
    ManifestDraft,
    Precision,
    Preprocessing,
    TensorSpec,
    Thresholds,
)
from shared.repository.repository import ModelRepository
from shared.vision.decode import decode_image
from shared.vision.letterbox import PAD_VALUE, letterbox

PICTURES = 16
PICTURE_SIZE = (480, 640)
FOUND_PER_PICTURE = (5, 20)  # candidates above the threshold, before suppression


def add_untrained_versions(
    repository: ModelRepository, name: str, depth: str, precisions: Sequence[Precision] = ("fp32",)
) -> list[int]:
    """Publish a version of `depth` for each of `precisions` (fp32, int8), the first live; return numbers."""
    config = PersonConfig.model_validate({"depth": depth})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PERSON.build(config)
    pictures = _pictures(config.image_size)
    settle_statistics(network, as_pixels(pictures))
    graph = DetectionGraph(PERSON, config, network)
    with torch.no_grad():
        scores = graph(pictures)[1].numpy()
    threshold = threshold_between(scores)

    def add(precision: Precision) -> int:
        def build(folder: Path) -> ManifestDraft:
            file = folder / MODEL_FILE
            raw_names = export_onnx(graph, file)
            if precision == "int8":
                float_file = file.with_name("float.onnx")
                file.rename(float_file)
                quantize(float_file, file, raw_names, list(pictures.numpy()))
                float_file.unlink()
            hide(file, raw_names)
            return _draft(config, precision, candidates=scores.shape[1], threshold=threshold)

        return repository.add_version(name, build)

    versions = [add(precision) for precision in precisions]
    repository.promote(name, versions[0])
    return versions


def settle_statistics(network: nn.Module, *inputs: Any) -> None:
    """Give batch normalisation the statistics of `inputs`, which are what the network takes.

    Without them activations of a deep network shrink until they are denormal numbers, which are slow.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    network.train()
    with torch.no_grad():
        network(*inputs)
    network.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def as_pixels(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures uint8 [N, H, W, 3] -> float [N, 3, H, W] in 0..1, as networks of pictures take them."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def threshold_between(scores: NDArray[np.float32]) -> float:
    """Return the middle of the widest gap between scores [N, K] that leaves a usual number above it.

    In the widest gap, since random scores lie close together and no rounding may decide what is found.
    """
    count = len(scores)
    ranked = np.sort(scores.ravel())[::-1]
    first, last = (min(each * count, ranked.size - 1) for each in FOUND_PER_PICTURE)
    gaps = ranked[first:last] - ranked[first + 1 : last + 1]
    widest = first + int(gaps.argmax())
    return float((ranked[widest] + ranked[widest + 1]) / 2)


def _pictures(side: int) -> torch.Tensor:
    with tempfile.TemporaryDirectory() as folder:
        generate_cctv(Path(folder, "cctv"), count={"test": PICTURES}, size=PICTURE_SIZE, seed=1)
        files = sorted(Path(folder, "cctv", "test").glob("*.jpg"))
        squares = [letterbox(decode_image(file.read_bytes()), (side, side))[0] for file in files]
    return torch.from_numpy(np.stack(squares))


def _draft(config: PersonConfig, precision: Precision, *, candidates: int, threshold: float) -> ManifestDraft:
    side, defaults = config.image_size, PERSON.default_thresholds(config)
    return ManifestDraft(
        family=PERSON.name,
        precision=precision,
        inputs=[TensorSpec(name=INPUT, dtype="uint8", shape=[-1, side, side, 3])],
        outputs=[
            TensorSpec(name="boxes", dtype="float32", shape=[-1, candidates, 4]),
            TensorSpec(name="scores", dtype="float32", shape=[-1, candidates]),
            TensorSpec(name="labels", dtype="int64", shape=[-1, candidates]),
        ],
        preprocessing=Preprocessing(height=side, width=side, pad_value=PAD_VALUE),
        labels=PERSON.class_names(config),
        thresholds=Thresholds.model_validate({**defaults, "score_threshold": threshold}),
        source_run="untrained",
    )


def main(arguments: list[str]) -> None:
    """Make the versions that the command line names; says what it wants where it cannot read it."""
    precisions: list[Any] = arguments[3:] or ["fp32"]
    if len(arguments) < 3 or not set(precisions) <= {"fp32", "int8"}:
        raise SystemExit("usage: python -m services.export.untrained REPOSITORY NAME DEPTH [fp32|int8 …]")
    add_untrained_versions(ModelRepository(Path(arguments[0])), arguments[1], arguments[2], precisions)


if __name__ == "__main__":
    main(sys.argv[1:])
