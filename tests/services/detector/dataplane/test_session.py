from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from services.detector.dataplane.session import SessionOptions, UnusableGraph, open_session, warm_up
from shared.repository.manifest import MODEL_FILE, Manifest
from tests.fixtures.tiny_detection_model import tiny_repository


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Manifest]:
    repository = tiny_repository(tmp_path)
    return repository.path("tiny", 1) / MODEL_FILE, repository.manifest("tiny", 1)


def changed(manifest: Manifest, part: str, **changes: object) -> Manifest:
    first, *rest = getattr(manifest, part)
    return manifest.model_copy(update={part: [first.model_copy(update=changes), *rest]})


def test_any_batch_size_runs_and_outputs_come_by_name(model: tuple[Path, Manifest]) -> None:
    session = open_session(*model, SessionOptions())
    warm_up(session, model[1], range(1, 4))
    outputs = session.run({"images": np.zeros((3, 96, 96, 3), np.uint8)})
    assert {name: tensor.shape for name, tensor in outputs.items()} == {
        "boxes": (3, 16, 4),
        "scores": (3, 16),
        "labels": (3, 16),
    }


def test_threads_do_not_spin_and_are_as_many_as_asked_for(
    model: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[onnxruntime.SessionOptions] = []
    original = onnxruntime.InferenceSession

    def record(path: str, options: onnxruntime.SessionOptions, **rest: object) -> object:
        seen.append(options)
        return original(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", record)
    open_session(*model, SessionOptions(intra_op_threads=2))
    (options,) = seen
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize(
    ("part", "changes", "words"),
    [
        ("inputs", {"name": "pictures"}, "'images'"),
        ("inputs", {"dtype": "float32"}, "uint8 in the graph and float32"),
        ("inputs", {"shape": [-1, 96, 97, 3]}, "[-1, 96, 97, 3] in the manifest"),
        ("inputs", {"shape": [-1, 96, 96]}, "[-1, 96, 96] in the manifest"),
        ("outputs", {"name": "corners"}, "no output 'corners'"),
        ("outputs", {"shape": [-1, 99, 4]}, "[-1, 99, 4] in the manifest"),
    ],
)
def test_a_graph_that_is_not_what_its_manifest_says_is_refused(
    model: tuple[Path, Manifest], part: str, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(UnusableGraph) as refusal:
        open_session(model[0], changed(model[1], part, **changes), SessionOptions())
    assert words in str(refusal.value)


def test_bytes_that_are_no_graph_are_refused(model: tuple[Path, Manifest], tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(UnusableGraph, match=r"broken\.onnx"):
        open_session(path, model[1], SessionOptions())
