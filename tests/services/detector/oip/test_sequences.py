"""Sequences with the unmodified tritonclient: the server carries the states from request to request.

What the answers must be comes from an ONNX Runtime session on the same file whose states are handed on here.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from services.detector.dataplane.session import Session, Tensors
from shared.repository import ModelRepository
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import (
    STATES,
    TinyStreamModel,
    add_tiny_stream_version,
    tiny_stream_repository,
)
from tests.services.detector.oip.client import client_of, refused, tensor, tensors
from tests.services.detector.serving import Gate, Served, serving, until

Client = triton.InferenceServerClient
OUTPUTS = ["boxes", "scores", "labels", "class_probabilities"]
MODEL = TinyStreamModel()
START = "inference request for sequence {} to model 'fading' must specify the START flag"
NO_ID = "inference request to model 'fading' must specify a non-zero or non-empty correlation ID"
NO_COUNTS = np.zeros((1, MODEL.channels, MODEL.height, MODEL.width), np.uint8)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    repository = tiny_stream_repository(tmp_path_factory.mktemp("sequences"))
    add_tiny_version(repository, "tiny")
    return repository


@pytest.fixture(scope="module")
def served(repository: ModelRepository) -> Iterator[Served]:
    with serving(repository.root, max_streams=8) as served:
        yield served


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[Client]:
    with client_of(served, concurrency=8) as client:
        yield client


@pytest.fixture
def own(tmp_path: Path) -> ModelRepository:
    """A repository that the test may change."""
    return tiny_stream_repository(tmp_path)


def windows(count: int, seed: int) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 3, NO_COUNTS.shape, np.uint8) for _ in range(count)]


def zero_states(rows: int = 1) -> dict[str, NDArray[Any]]:
    return {f"state_{s}": np.zeros((rows, *MODEL.state_shape(s)), np.float32) for s in STATES}


class Offline:
    """ONNX Runtime alone, with the states in the test's own hands."""

    def __init__(self, repository: ModelRepository, version: int = 1) -> None:
        self.session = ort.InferenceSession(repository.path("fading", version) / "model.onnx")
        self.names = [output.name for output in self.session.get_outputs()]
        self.states = zero_states()

    def step(self, window: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        found = dict(
            zip(self.names, self.session.run(None, {"histograms": window, **self.states}), strict=True)
        )
        self.states = {f"state_{state}": found[f"next_{state}"] for state in STATES}
        return {name: found[name] for name in OUTPUTS}


def send(
    client: Client, window: NDArray[np.uint8], sequence: int | str, flags: str = "", **options: Any
) -> triton.InferResult:
    """Send one window; `flags` may hold S for start and E for end."""
    return client.infer(
        "fading",
        [tensor("histograms", window)],
        sequence_id=sequence,
        sequence_start="S" in flags,
        sequence_end="E" in flags,
        **options,
    )


def assert_same(result: triton.InferResult, expected: dict[str, NDArray[Any]]) -> None:
    assert [output["name"] for output in result.get_response()["outputs"]] == OUTPUTS
    for name, array in expected.items():
        np.testing.assert_allclose(result.as_numpy(name), array, atol=1e-6, err_msg=name)


def open_streams(served: Served) -> float:
    return served.metric("sightline_detector_streams_open")


def test_a_sequence_answers_as_the_graph_whose_states_are_handed_on(
    client: Client, repository: ModelRepository
) -> None:
    offline = Offline(repository)
    given = windows(6, seed=1)
    for number, window in enumerate(given):
        flags = "S" if number == 0 else "E" if number == len(given) - 1 else ""
        result = send(client, window, 7, flags, request_id=str(number))
        assert_same(result, offline.step(window))
        answer = result.get_response()
        assert (answer["id"], answer["model_name"], answer["model_version"]) == (str(number), "fading", "1")


def test_interleaved_sequences_keep_their_states_apart(client: Client, repository: ModelRepository) -> None:
    """Also 5 and "5", which are two; JSON data and binary data mixed."""
    names: list[int | str] = [5, "5", 2**64 - 1, "camera north"]
    offline = {name: Offline(repository) for name in names}
    for number in range(4):
        for seed, name in enumerate(names):
            (window,) = windows(1, seed=10 * seed + number)
            result = client.infer(
                "fading",
                [tensor("histograms", window, binary=seed % 2 == 0)],
                sequence_id=name,
                sequence_start=number == 0,
                sequence_end=number == 3,
            )
            assert_same(result, offline[name].step(window))


def test_concurrent_sequences_answer_as_alone(served: Served, repository: ModelRepository) -> None:
    def run(sequence: int) -> None:
        offline = Offline(repository)
        with client_of(served) as client:
            for number, window in enumerate(windows(8, seed=sequence)):
                flags = "S" if number == 0 else "E" if number == 7 else ""
                assert_same(send(client, window, sequence, flags), offline.step(window))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(run, range(1, 7)))


def test_an_unknown_sequence_has_to_be_started(client: Client) -> None:
    for name in (404, "nobody"):
        with refused(400, START.format(name)):
            send(client, NO_COUNTS, name)
    with refused(400, START.format(404)):
        send(client, NO_COUNTS, 404, "E")


def test_the_end_forgets_the_sequence(client: Client, served: Served) -> None:
    before = open_streams(served)
    send(client, NO_COUNTS, 11, "S")
    assert open_streams(served) == before + 1
    send(client, NO_COUNTS, 11, "E")
    assert open_streams(served) == before
    with refused(400, START.format(11)):
        send(client, NO_COUNTS, 11)
    send(client, NO_COUNTS, 11, "SE")
    assert open_streams(served) == before


def test_a_start_on_a_running_sequence_begins_again_with_zeros(
    client: Client, served: Served, repository: ModelRepository
) -> None:
    first, second = windows(2, seed=3)
    send(client, first, 12, "S")
    before = open_streams(served)
    assert_same(send(client, second, 12, "S"), Offline(repository).step(second))
    assert open_streams(served) == before
    send(client, first, 12, "E")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"histograms": NO_COUNTS.astype(np.float32)}, ["data-type is 'FP32'", "expects 'UINT8'"]),
        ({"histograms": NO_COUNTS[:, :, :-1]}, ["unexpected shape", "[-1,4,32,48]"]),
        ({"histograms": np.repeat(NO_COUNTS, 2, 0)}, ["must specify batch-size 1", "sequence batcher"]),
        ({"histograms": NO_COUNTS[:0]}, ["must specify batch-size 1"]),
        ({"events": NO_COUNTS}, ["unexpected inference input 'events'", "there are: histograms"]),
        ({"histograms": NO_COUNTS, **zero_states()}, ["'state_h0'", "carries its states itself"]),
    ],
)
def test_a_wrong_window_is_refused_and_changes_nothing(
    client: Client,
    served: Served,
    repository: ModelRepository,
    inputs: dict[str, NDArray[Any]],
    words: list[str],
) -> None:
    offline = Offline(repository)
    first, second = windows(2, seed=4)
    open_before = open_streams(served)
    assert_same(send(client, first, 13, "S"), offline.step(first))
    for start in (False, True):  # one that would begin anew does not either
        with refused(400, *words):
            client.infer("fading", tensors(inputs), sequence_id=13, sequence_start=start, sequence_end=True)
    assert_same(send(client, second, 13, "E"), offline.step(second))
    assert open_streams(served) == open_before


def test_outputs_may_be_chosen_and_states_are_not_among_them(client: Client) -> None:
    result = send(client, NO_COUNTS, 14, "SE", outputs=[triton.InferRequestedOutput("labels")])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["labels"]
    with refused(400, "unexpected inference output 'next_h0'"):
        send(client, NO_COUNTS, 14, "S", outputs=[triton.InferRequestedOutput("next_h0")])
    with refused(400, START.format(14)):
        send(client, NO_COUNTS, 14)


def test_without_a_sequence_the_client_hands_the_states_on_itself(
    client: Client, repository: ModelRepository
) -> None:
    offline = Offline(repository)
    states = zero_states()
    for window in windows(3, seed=5):
        result = client.infer("fading", tensors({"histograms": window, **states}))
        expected = offline.step(window)
        for name in OUTPUTS:
            np.testing.assert_allclose(result.as_numpy(name), expected[name], atol=1e-6)
        states = {f"state_{state}": result.as_numpy(f"next_{state}") for state in STATES}
    rows = client.infer("fading", tensors({"histograms": np.repeat(NO_COUNTS, 3, 0), **zero_states(3)}))
    assert rows.as_numpy("boxes").shape == (3, 2, 4)


def test_without_a_sequence_and_without_states_a_correlation_id_is_missed(client: Client) -> None:
    with refused(400, NO_ID, "state_h0"):
        client.infer("fading", [tensor("histograms", NO_COUNTS)])
    some = {name: array for name, array in zero_states().items() if name != "state_c3"}
    with refused(400, "missing required input(s) ['state_c3']"):
        client.infer("fading", tensors({"histograms": NO_COUNTS, **some}))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"sequence_start": True}, NO_ID),
        ({"sequence_id": 0, "sequence_end": True}, NO_ID),
        ({"sequence_id": "", "sequence_start": True}, NO_ID),
        ({"sequence_id": -1}, "integer from 0 to 2^64 - 1 or a string, not -1"),
        ({"sequence_id": 2**64}, "2^64"),
        ({"sequence_id": 1.5}, "not 1.5"),
        ({"sequence_id": True}, "not True"),
        ({"sequence_id": [1]}, "not [1]"),
        ({"sequence_id": "x" * 129}, "129 characters"),
        ({"sequence_id": 1, "sequence_start": 1}, "'sequence_start' has to be true or false"),
    ],
)
def test_wrong_sequence_parameters_are_named(served: Served, parameters: dict[str, Any], words: str) -> None:
    stated = {"name": "histograms", "shape": [1, 4, 32, 48], "datatype": "UINT8"}
    document = {"inputs": [stated | {"data": NO_COUNTS.ravel().tolist()}], "parameters": parameters}
    answer = served.client.post("/v2/models/fading/infer", content=json.dumps(document))
    assert answer.status_code == 400
    assert words in answer.json()["error"]


def test_requests_of_one_sequence_at_once_are_applied_in_the_order_of_their_arrival(
    own: ModelRepository, gate: Gate
) -> None:
    offline = Offline(own)
    given = windows(4, seed=6)
    expected = [offline.step(window) for window in given]
    with serving(own.root) as served, client_of(served, concurrency=4) as client:
        send(client, NO_COUNTS, 1, "S")
        gate.close()
        pending = []
        for number, window in enumerate(given):
            pending.append(
                client.async_infer(
                    "fading",
                    [tensor("histograms", window)],
                    sequence_id=1,
                    sequence_end=number == 3,
                )
            )
            until(lambda: served.metric("sightline_http_requests_in_flight") == len(pending) + 1)
        gate.open()
        for request, answer in zip(pending, expected, strict=True):
            assert_same(request.get_result(timeout=10), answer)
        assert open_streams(served) == 0


def test_a_request_waits_for_its_turn_no_longer_than_its_timeout(own: ModelRepository, gate: Gate) -> None:
    with serving(own.root) as served, client_of(served, concurrency=2) as client:
        send(client, NO_COUNTS, 1, "S")
        gate.close()
        first = client.async_infer("fading", [tensor("histograms", NO_COUNTS)], sequence_id=1)
        until(lambda: served.metric("sightline_http_requests_in_flight") == 2)
        with refused(504, "earlier requests of sequence 1", "0.05 s"):
            send(client, NO_COUNTS, 1, timeout=50_000)
        gate.open()
        first.get_result(timeout=10)
        send(client, NO_COUNTS, 1, "E")


def test_past_the_limit_of_streams_a_new_sequence_is_429(own: ModelRepository) -> None:
    with serving(own.root, max_streams=2) as served, client_of(served) as client:
        send(client, NO_COUNTS, 1, "S")
        send(client, NO_COUNTS, 2, "S")
        with refused(429, "SIGHTLINE_DETECTOR_MAX_STREAMS"):
            send(client, NO_COUNTS, 3, "S")
        send(client, NO_COUNTS, 2, "S")  # in its own place
        send(client, NO_COUNTS, 1, "E")
        send(client, NO_COUNTS, 3, "S")


def test_an_idle_sequence_is_forgotten(own: ModelRepository) -> None:
    with serving(own.root, stream_idle_s=0.2) as served, client_of(served) as client:
        send(client, NO_COUNTS, 1, "S")
        until(lambda: open_streams(served) == 0)
        with refused(400, START.format(1)):
            send(client, NO_COUNTS, 1)


def test_a_sequence_stays_on_its_version_when_another_goes_live(own: ModelRepository) -> None:
    old, new = Offline(own), None
    first, second, third = windows(3, seed=8)
    with serving(own.root) as served, client_of(served) as client:
        assert_same(send(client, first, 1, "S"), old.step(first))
        add_tiny_stream_version(own, model=TinyStreamModel(score_scale=0.5))
        until(lambda: client.get_model_metadata("fading")["versions"] == ["2"])
        result = send(client, second, 1)
        assert_same(result, old.step(second))
        assert result.get_response()["model_version"] == "1"
        with refused(400, "runs on version 1", "asks for version 2"):
            send(client, third, 1, model_version="2")
        result = send(client, third, 1, "E", model_version="live")
        assert_same(result, old.step(third))
        new = Offline(own, 2)
        result = send(client, first, 1, "S")
        assert_same(result, new.step(first))
        assert result.get_response()["model_version"] == "2"


def test_a_failing_model_leaves_the_sequence_as_it_was(
    own: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    offline = Offline(own)
    first, second = windows(2, seed=9)
    broken = threading.Event()
    run = Session.run

    def run_or_fail(session: Session, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
        if broken.is_set():
            raise RuntimeError("the device is gone")
        return run(session, inputs)

    monkeypatch.setattr(Session, "run", run_or_fail)
    with serving(own.root) as served, client_of(served) as client:
        assert_same(send(client, first, 1, "S"), offline.step(first))
        broken.set()
        with refused(500):
            send(client, second, 1, "E")
        with refused(500):
            send(client, second, 2, "S")
        broken.clear()
        with refused(400, START.format(2)):
            send(client, second, 2)
        assert_same(send(client, second, 1, "E"), offline.step(second))


def test_the_metadata_names_what_a_sequence_sends_and_gets(client: Client) -> None:
    metadata = client.get_model_metadata("fading")
    assert metadata["inputs"] == [{"name": "histograms", "datatype": "UINT8", "shape": [-1, 4, 32, 48]}]
    assert [output["name"] for output in metadata["outputs"]] == OUTPUTS
    config = client.get_model_config("fading")
    assert [given["name"] for given in config["input"]] == ["histograms"]
    assert [given["name"] for given in config["output"]] == OUTPUTS
    states = config["sequence_batching"]["state"]
    assert [state["input_name"] for state in states] == list(zero_states())
    assert [state["dims"] for state in states] == [MODEL.state_shape(state) for state in STATES]


def test_models_without_states_refuse_sequences(client: Client) -> None:
    picture = np.zeros((1, 96, 96, 3), np.uint8)
    for flags in ({}, {"sequence_start": True}):
        with refused(400, "model 'tiny' keeps no state"):
            client.infer("tiny", tensors({"images": picture}), sequence_id=1, **flags)
