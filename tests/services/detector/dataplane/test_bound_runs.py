"""Runs between fixed buffers. The same calls serve a GPU; here the buffers lie in the CPU's memory."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from services.detector.dataplane.bound_runs import BoundRuns
from services.detector.dataplane.session import Session, Tensors
from shared.repository.manifest import MODEL_FILE
from tests.fixtures.tiny_detection_model import tiny_repository


@pytest.fixture
def session(tmp_path: Path) -> onnxruntime.InferenceSession:
    model = tiny_repository(tmp_path).path("tiny", 1) / MODEL_FILE
    return onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])


def pictures(seed: int, rows: int) -> Tensors:
    return {"images": np.random.default_rng(seed).integers(0, 256, (rows, 96, 96, 3), np.uint8)}


def test_bound_runs_answer_as_plain_runs_for_every_batch_size_and_from_many_threads(
    session: onnxruntime.InferenceSession,
) -> None:
    plain = Session(session, "CPUExecutionProvider")
    bound = Session(session, "CPUExecutionProvider", BoundRuns(session, device="cpu", graphs=False))
    asked = [pictures(seed, rows=1 + seed % 3) for seed in range(24)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(bound.run, asked))
    for inputs, answer in zip(asked, answers, strict=True):
        expected = plain.run(inputs)
        assert answer.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(answer[name], values)


def test_an_answer_is_not_overwritten_by_the_next_run(session: onnxruntime.InferenceSession) -> None:
    bound = BoundRuns(session, device="cpu", graphs=False)
    first = bound.run(pictures(1, 2))
    copy = {name: values.copy() for name, values in first.items()}
    bound.run(pictures(2, 2))
    for name, values in copy.items():
        np.testing.assert_array_equal(first[name], values)


def test_inputs_that_are_not_contiguous_are_read_as_they_are(session: onnxruntime.InferenceSession) -> None:
    bound = BoundRuns(session, device="cpu", graphs=False)
    turned = {"images": pictures(3, 2)["images"][:, ::-1]}
    expected = session.run(["scores"], {"images": np.ascontiguousarray(turned["images"])})[0]
    np.testing.assert_array_equal(bound.run(turned)["scores"], expected)
