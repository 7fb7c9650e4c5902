from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from services.detector.dataplane.session import Session, Tensors
from shared.repository import ModelRepository
from tests.fixtures.several_tensors_model import add_several_tensors
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.services.detector.oip.client import client_of
from tests.services.detector.serving import Gate, Served, gated, serving

Reference = Callable[[str, dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """`tiny` in two versions, of which the second is live, and `several`."""
    repository = tiny_repository(tmp_path_factory.mktemp("oip"), versions=2)
    add_several_tensors(repository)
    return repository


@pytest.fixture(scope="module")
def served(models: ModelRepository) -> Iterator[Served]:
    with serving(models.root, max_body_bytes=2_000_000, max_batch_images=4) as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[triton.InferenceServerClient]:
    with client_of(served) as client:
        yield client


@pytest.fixture(scope="module")
def reference(models: ModelRepository) -> Reference:
    """ONNX Runtime by itself on the same file: what the server must answer."""
    sessions = {
        name: ort.InferenceSession(models.path(name, models.resolve(name)) / "model.onnx")
        for name in models.models()
    }

    def run(name: str, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        session = sessions[name]
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs), strict=True))

    return run


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with gated(monkeypatch) as gate:
        yield gate


@pytest.fixture
def runs(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> list[Tensors]:
    """The inputs of every run of a session, warming up included, from when it comes to the gate."""
    seen: list[Tensors] = []
    run = Session.run

    def noted(session: Session, inputs: Tensors) -> Tensors:
        seen.append(inputs)
        return run(session, inputs)

    monkeypatch.setattr(Session, "run", noted)
    return seen


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return tiny_repository(tmp_path)


@pytest.fixture
def several(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """Inputs of the model `several`: two rows, and integers that no float can hold."""
    return {
        "picture": rng.integers(0, 256, (2, 2, 3, 3), np.uint8),
        "scale": np.array([0.1, -2.5], np.float32).reshape(2, 1, 1, 1),
        "half": np.array([[0.1, 7], [-0.25, 60000 / 2]], np.float16),
        "ids": np.array([[2**53 + 1, -1, 0], [2**63 - 2, -(2**63), 7]]),
    }


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
