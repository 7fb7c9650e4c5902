"""Resident memory of the process, as the system counts it, while versions come and go."""

from pathlib import Path

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

from shared.repository import ModelRepository
from shared.repository.manifest import MODEL_FILE, ManifestDraft
from tests.fixtures.tiny_detection_model import tiny_detection_model, tiny_manifest
from tests.services.detector.dataplane.plane import data_plane
from tests.services.detector.serving import until

_WEIGHTS_MIB = 32


def add_heavy_version(repository: ModelRepository) -> int:
    """Add a version with weights of many megabytes that no optimiser can leave out; return its number."""

    def build(folder: Path) -> ManifestDraft:
        model = onnx.load_from_string(tiny_detection_model())
        weights = np.random.default_rng(0).random((_WEIGHTS_MIB * 256, 1024), np.float32)
        model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
        model.graph.node.append(helper.make_node("Gather", ["weights", "labels"], ["rows"]))
        rows = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 16, 1024])
        model.graph.output.append(rows)
        (folder / MODEL_FILE).write_bytes(model.SerializeToString())
        return tiny_manifest()

    version = repository.add_version("heavy", build)
    repository.promote("heavy", version)
    return version


def resident_mib() -> float:
    return psutil.Process().memory_info().rss / 2**20


def test_versions_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    with data_plane(repository, wide_threads=2) as plane:
        until(lambda: plane.watcher.scanned)
        loaded, unloaded = [], []
        for _ in range(6):
            add_heavy_version(repository)
            plane.control.load("heavy")
            loaded.append(resident_mib())
            plane.control.unload("heavy")
            unloaded.append(resident_mib())
    held = [more - less for more, less in zip(loaded, unloaded, strict=True)]
    assert min(held) > _WEIGHTS_MIB * 0.9  # or this would measure nothing
    assert max(unloaded[1:]) - unloaded[0] < _WEIGHTS_MIB / 4


def test_a_swap_holds_two_versions_only_while_it_lasts(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    with data_plane(repository) as plane:
        until(lambda: plane.watcher.scanned)
        after = []
        for _ in range(5):
            add_heavy_version(repository)
            plane.watcher.scan()
            after.append(resident_mib())
        assert max(after[1:]) - after[0] < _WEIGHTS_MIB / 4
