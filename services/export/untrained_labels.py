"""Versions of a classification network with random weights, for timing alone.

`python -m services.export.untrained_labels REPOSITORY NAME ARCHITECTURE [PRECISION …]`, for instance with
convnext_tiny_cbam fp32 int8; precisions: fp32, fp16, int8. They cost what a trained network costs at the
family's own input of 256 x 1600 and say nothing of meaning. No gate lets them into a repository: this
writes to the folder it is given, which is a benchmark's own.
"""

import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from services.export.exporter import export_onnx
from services.export.pipeline import tensors
from services.export.quantize import quantize
from services.export.raw_outputs import hide
from services.export.tasks.classification import ClassificationExport, ClassificationGraph
from services.export.untrained import as_pixels, settle_statistics
from shared.data.synthetic.steel import render_strip
from shared.families.defects.config import DefectsConfig
from shared.families.defects.family import DEFECTS
from shared.repository.manifest import MODEL_FILE, LabelThresholds, ManifestDraft, Precision
from shared.repository.repository import ModelRepository
from shared.vision.letterbox import letterbox

PICTURES = 4
# Blocks that add something: at the default of 1e-6 a random network hands on its first layer.
LAYER_SCALE = 0.1


def add_untrained_versions(
    repository: ModelRepository, name: str, config: DefectsConfig, precisions: list[Precision]
) -> list[int]:
    """Publish one version for each of `precisions`, the first of them live; return their numbers."""
    images = _pictures(DEFECTS.input_size(config))
    graphs = {half: _graph(config, images, half=half) for half in {each == "fp16" for each in precisions}}
    versions = []
    for precision in precisions:
        graph = graphs[precision == "fp16"]

        def build(
            folder: Path, graph: ClassificationGraph = graph, precision: Precision = precision
        ) -> ManifestDraft:
            return _build(folder, config, graph, precision, images)

        versions.append(repository.add_version(name, build))
    repository.promote(name, versions[0])
    return versions


def _graph(config: DefectsConfig, images: NDArray[np.uint8], *, half: bool) -> ClassificationGraph:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = DEFECTS.build(config)
    settle_statistics(network, as_pixels(torch.from_numpy(images[:2])))
    return ClassificationGraph(DEFECTS, config, network, half=half)


def _build(
    folder: Path,
    config: DefectsConfig,
    graph: ClassificationGraph,
    precision: Precision,
    images: NDArray[np.uint8],
) -> ManifestDraft:
    file = folder / MODEL_FILE
    raw_names = export_onnx(graph, file)
    if precision == "int8":
        float_file = file.with_name("float.onnx")
        file.rename(float_file)
        float_outputs = [*graph.outputs, *raw_names]
        quantize(float_file, file, float_outputs, list(images), method=ClassificationExport.calibration)
        float_file.unlink()
    hide(file, raw_names)
    inputs, outputs = tensors(file, graph)
    labels = DEFECTS.class_names(config)
    return ManifestDraft(
        family=DEFECTS.name,
        task="classification",
        precision=precision,
        inputs=inputs,
        outputs=outputs,
        preprocessing=graph.preprocessing,
        labels=labels,
        thresholds=LabelThresholds(probability=[0.5] * len(labels)),
        source_run="untrained",
    )


def _pictures(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return synthetic strips uint8 [N, H, W, 3] with one defect each."""
    strips = [
        render_strip((256, 1600), (number % 4 + 1,), np.random.default_rng(number))[0]
        for number in range(PICTURES)
    ]
    return np.stack([letterbox(np.repeat(strip[..., None], 3, axis=2), size)[0] for strip in strips])


def main(arguments: list[str]) -> None:
    """Make the versions that the command line names; says what it wants where it cannot read it."""
    known = get_args(Precision)
    if len(arguments) < 3 or not set(arguments[3:]) <= set(known):
        raise SystemExit(
            "usage: python -m services.export.untrained_labels REPOSITORY NAME ARCHITECTURE "
            f"[{'|'.join(known)} …]"
        )
    folder, name, architecture, *precisions = arguments
    chosen: Any = precisions or ["fp32", "int8"]
    config = DefectsConfig(architecture=architecture, layer_scale=LAYER_SCALE)
    for version in add_untrained_versions(ModelRepository(Path(folder)), name, config, chosen):
        print(f"{name} version {version}")


if __name__ == "__main__":
    main(sys.argv[1:])
