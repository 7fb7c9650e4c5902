"""The repository versions that a benchmark runs, in a repository of their own."""

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from services.detector.cli.bench.peers.detection import GraphSpec
from shared.repository.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    Manifest,
    ManifestDraft,
    Preprocessing,
    Thresholds,
)
from shared.repository.repository import ModelRepository

UNTRAINED = "untrained"
UNTRAINED_STREAMS = "services.export.untrained_streams"
_DEADLINE_S = 300.0


class NoUntrainedModel(RuntimeError):
    """The untrained network could not be made; the message says why."""


@contextlib.contextmanager
def alone_in_a_repository(repository: ModelRepository, model: str, version: int) -> Iterator[ModelRepository]:
    """Yield a temporary repository that holds a copy of one version, live and nothing beside it.

    So a version can be measured that is not live, and nobody's promotion disturbs the measurement.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        shutil.copytree(repository.path(model, version), Path(folder, model, str(version)))
        alone = ModelRepository(Path(folder))
        alone.promote(model, version)
        yield alone


@contextlib.contextmanager
def untrained_repository(size: str, maker: str = "services.export.untrained") -> Iterator[ModelRepository]:
    """Yield a temporary repository whose model `untrained` is a network of this size with random weights.

    maker: the module that makes it; by default the person network. It costs what a trained one costs and
    finds nothing of meaning. Raises NoUntrainedModel.
    """
    if importlib.util.find_spec("torch") is None:
        raise NoUntrainedModel("--untrained needs PyTorch; install the `worker` extra, or give --model")
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        command = [sys.executable, "-m", maker, folder, UNTRAINED, size]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            raise NoUntrainedModel(
                f"no untrained model within {_DEADLINE_S:g} s: {' '.join(command)}"
            ) from error
        if ended.returncode:
            raise NoUntrainedModel(f"cannot make an untrained model:\n{ended.stderr.strip()}")
        yield ModelRepository(Path(folder))


def add_changed_version(
    repository: ModelRepository,
    manifest: Manifest,
    graph: bytes,
    change: Callable[[ManifestDraft], ManifestDraft] = lambda draft: draft,
) -> int:
    """Add a version of the same model with another graph and, through `change`, another manifest."""

    def build(folder: Path) -> ManifestDraft:
        (folder / MODEL_FILE).write_bytes(graph)
        return change(
            ManifestDraft(**{field: getattr(manifest, field) for field in ManifestDraft.model_fields})
        )

    return repository.add_version(manifest.name, build)


def graph_spec(version: Path) -> GraphSpec:
    """Return what the bare loop and the peers have to know of a version of a detection model."""
    manifest = Manifest.model_validate_json((version / MANIFEST_FILE).read_bytes())
    preprocessing, thresholds = manifest.preprocessing, manifest.thresholds
    assert isinstance(preprocessing, Preprocessing)
    assert isinstance(thresholds, Thresholds)  # the command refused other tasks
    return GraphSpec(
        model=str(version / MODEL_FILE),
        input=manifest.inputs[0].name,
        height=preprocessing.height,
        width=preprocessing.width,
        pad_value=preprocessing.pad_value,
        score_threshold=thresholds.score_threshold,
        iou_threshold=thresholds.iou_threshold,
        max_detections=thresholds.max_detections,
        labels=manifest.labels,
    )


def one_of_each_precision(repository: ModelRepository, model: str) -> list[int]:
    """Return the newest version of every precision, fp32 first."""
    newest = {
        repository.manifest(model, version).precision: version for version in repository.versions(model)
    }
    return [newest[precision] for precision in ("fp32", "fp16", "int8") if precision in newest]


def parse_versions(repository: ModelRepository, model: str, versions: Sequence[str]) -> list[int]:
    """Return version numbers for numbers or aliases. Raises UnknownModel or UnknownVersion."""
    return [repository.resolve(model, version) for version in versions]
