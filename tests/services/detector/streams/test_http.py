"""Streams over HTTP."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from services.detector.dataplane.streams.formats import DAT, EVENTS, HISTOGRAMS
from services.detector.schemas import ChunkDetections, StreamList, StreamView
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import TinyStreamModel, add_tiny_stream_version, tiny_stream_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Served, serving, until
from tests.services.detector.streams.recordings import (
    assert_same,
    cuts,
    events_at,
    offline,
    packed,
    random_events,
)

ONE_EVENT = packed(events_at((10, 30, 7, 1)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_stream_repository(tmp_path_factory.mktemp("streams"))
    add_tiny_stream_version(repository, "broken", TinyStreamModel(nan_from=2))
    add_tiny_version(repository)
    limits: dict[str, Any] = {"max_streams": 24, "stream_max_windows": 20, "stream_max_window_events": 1000}
    with serving(repository.root, max_batch=4, max_delay_ms=2, max_body_bytes=200_000, **limits) as served:
        yield served


@pytest.fixture
def stream(served: Served) -> Iterator[str]:
    """A stream whose first window begins at 0."""
    number = opened(served)
    yield number
    served.client.delete(f"/v1/streams/{number}")


def opened(served: Served, model: str = "fading", **fields: Any) -> str:
    response = served.client.post(f"/v1/models/{model}/streams", json={"start_us": 0, **fields})
    assert response.status_code == 201, response.text
    number: str = response.json()["id"]
    return number


def send(
    served: Served, stream: str, sequence: int, body: bytes, kind: str = EVENTS, **query: Any
) -> httpx.Response:
    return served.client.post(
        f"/v1/streams/{stream}/chunks",
        content=body,
        params={"sequence": sequence, **query},
        headers={"Content-Type": kind},
    )


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["type"].rpartition(":")[2]


def windows(*answers: dict[str, Any]) -> list[tuple[Any, Any, Any]]:
    labels = {"left": 0, "right": 1}
    return [
        (
            np.array([list(found["box"].values()) for found in window["detections"]]).reshape(-1, 4),
            np.array([found["score"] for found in window["detections"]]),
            np.array([labels[found["label"]] for found in window["detections"]], np.int64),
        )
        for answer in answers
        for window in answer["windows"]
    ]


def test_a_stream_is_opened_fed_and_closed(served: Served) -> None:
    response = served.client.post(
        "/v1/models/fading/streams",
        json={"sensor": {"height": 32, "width": 48}, "start_us": 0, "score_threshold": 0.4},
    )
    assert response.status_code == 201
    view = StreamView.model_validate(response.json(), extra="forbid")
    assert response.headers["location"] == f"/v1/streams/{view.id}"
    assert (view.model, view.version, view.window_us, view.next_sequence) == ("fading", 1, 50_000, 0)
    assert view.input.model_dump() == {
        "representation": "stacked_histogram",
        "dtype": "uint8",
        "channels": 4,
        "height": 32,
        "width": 48,
    }

    response = send(served, view.id, 0, ONE_EVENT, until_us=100_000)
    assert response.status_code == 200
    assert set(response.headers) >= {"server-timing", "x-model-version", "x-request-id"}
    answer = ChunkDetections.model_validate(response.json(), extra="forbid")
    assert [(window.index, window.start_us, window.end_us) for window in answer.windows] == [
        (0, 0, 50_000),
        (1, 50_000, 100_000),
    ]
    (found,) = answer.windows[0].detections
    assert found.box.model_dump() == {"x1": 30, "y1": 7, "x2": 31, "y2": 8}
    assert (found.score, found.label, found.label_id) == (0.5, "right", 1)
    assert answer.windows[1].detections == []  # 1/3 is below what was asked for

    view = StreamView.model_validate(served.client.get(f"/v1/streams/{view.id}").json(), extra="forbid")
    assert (view.next_sequence, view.windows, view.pending_events) == (1, 2, 0)
    listed = StreamList.model_validate(served.client.get("/v1/streams").json(), extra="forbid")
    assert view.id in [one.id for one in listed.streams]

    assert served.client.delete(f"/v1/streams/{view.id}").status_code == 204
    for gone in (
        served.client.get(f"/v1/streams/{view.id}"),
        served.client.delete(f"/v1/streams/{view.id}"),
        send(served, view.id, 1, ONE_EVENT),
    ):
        assert problem(gone) == (410, "stream_gone")
        assert gone.json()["reason"] == "client"


def test_nothing_has_to_be_stated_to_open_a_stream(served: Served) -> None:
    response = served.client.post("/v1/models/fading/versions/live/streams")
    assert response.status_code == 201
    assert response.json()["start_us"] is None
    served.client.delete(response.headers["location"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 422, "unprocessable_content"),
        (b"\xff", 422, "unprocessable_content"),
        (b'{"start": 0}', 422, "unprocessable_content"),
        (b'{"start_us": -1}', 422, "unprocessable_content"),
        (b'{"start_us": 9223372036854775807}', 422, "unprocessable_content"),
        (b'{"score_threshold": NaN}', 422, "unprocessable_content"),
        (b'{"sensor": {"height": 48, "width": 32}}', 422, "wrong_sensor"),
    ],
)
def test_wrong_options_are_refused(served: Served, body: bytes, status: int, code: str) -> None:
    assert problem(served.client.post("/v1/models/fading/streams", content=body)) == (status, code)


def test_tasks_are_not_mixed_up(served: Served) -> None:
    picture = encode(two_rectangles())
    assert problem(served.detect(picture, "fading")) == (409, "wrong_task")
    assert problem(served.client.post("/v1/models/fading/classify", content=picture)) == (409, "wrong_task")
    assert problem(served.client.post("/v1/models/tiny/streams")) == (409, "wrong_task")
    assert problem(served.client.post("/v1/models/none/streams")) == (404, "unknown_model")


def test_a_stream_model_is_described_like_any_other(served: Served) -> None:
    assert served.client.get("/v1/models/fading").json()["task"] == "stream_detection"
    manifest = served.client.get("/v1/models/fading/versions/live/manifest").json()
    assert manifest["preprocessing"]["window_ms"] == 50
    assert served.client.get("/v1/models/fading/labels").json()["labels"] == ["left", "right"]
    assert served.client.get("/v1/models/fading/versions").status_code == 200


@pytest.mark.parametrize(
    ("body", "kind", "query", "status", "code"),
    [
        (b"12", EVENTS, {}, 422, "wrong_chunk"),
        (packed(events_at((5, 48, 0, 0))), EVENTS, {}, 422, "wrong_chunk"),
        (packed(events_at((5, 0, 0, 2))), EVENTS, {}, 422, "wrong_chunk"),
        (packed(events_at((5, 0, 0, 0), (4, 0, 0, 0))), EVENTS, {}, 422, "wrong_chunk"),
        (packed(events_at((5, 0, 0, 0))), EVENTS, {"until_us": 4}, 422, "wrong_chunk"),
        (packed(events_at((2_000_000, 0, 0, 0))), EVENTS, {}, 413, "too_many_windows"),
        (packed(events_at(*[(5, 0, 0, 0)] * 1001)), EVENTS, {}, 413, "too_many_events"),
        (bytes(12), DAT, {}, 422, "wrong_chunk"),
        (bytes(6143), HISTOGRAMS, {}, 422, "wrong_chunk"),
        (bytes(6144), HISTOGRAMS, {"until_us": 5}, 422, "wrong_chunk"),
        (b"", "application/json", {}, 415, "unknown_chunk_type"),
        (b"", EVENTS, {"until_us": "soon"}, 422, "unprocessable_content"),
        (b"", EVENTS, {"until": 5}, 422, "unprocessable_content"),
        (b"", EVENTS, {"until_us": [5, 6]}, 422, "wrong_form"),
        (bytes(200_005), EVENTS, {}, 413, "payload_too_large"),
    ],
)
def test_wrong_chunks_are_refused_and_nothing_is_taken(
    served: Served, stream: str, body: bytes, kind: str, query: dict[str, Any], status: int, code: str
) -> None:
    assert problem(send(served, stream, 0, body, kind, **query)) == (status, code)
    view = served.client.get(f"/v1/streams/{stream}").json()
    assert (view["next_sequence"], view["windows"], view["pending_events"]) == (0, 0, 0)
    assert send(served, stream, 0, ONE_EVENT, until_us=50_000).json()["windows"]


def test_the_media_type_may_have_parameters(served: Served, stream: str) -> None:
    assert send(served, stream, 0, ONE_EVENT, f"{EVENTS.title()}; v=1").status_code == 200


def test_repeats_are_answered_and_gaps_refused(served: Served, stream: str) -> None:
    first = send(served, stream, 0, ONE_EVENT, until_us=50_000)
    assert send(served, stream, 0, ONE_EVENT, until_us=50_000).json() == first.json()
    gap = send(served, stream, 2, ONE_EVENT)
    assert problem(gap) == (409, "sequence_conflict")
    assert gap.json()["expected"] == 1


def test_a_failing_model_answers_500_and_loses_nothing(served: Served) -> None:
    number = opened(served, "broken")
    two = packed(events_at((5, 1, 1, 1), (5, 1, 1, 1)))
    for _ in range(2):
        assert problem(send(served, number, 0, two, until_us=50_000)) == (500, "inference_failed")
    assert send(served, number, 0, ONE_EVENT, until_us=50_000).status_code == 200
    served.client.delete(f"/v1/streams/{number}")


def test_another_method_names_those_there_are(served: Served, stream: str) -> None:
    response = served.client.put(f"/v1/streams/{stream}")
    assert (response.status_code, response.headers["allow"]) == (405, "DELETE, GET")


def test_unknown_streams(served: Served) -> None:
    assert problem(served.client.get("/v1/streams/nonsense")) == (404, "unknown_stream")
    forgotten = served.client.get(f"/v1/streams/{'0' * 32}")
    assert problem(forgotten) == (410, "stream_gone")


def test_streams_of_several_clients_do_not_mix(served: Served) -> None:
    def one(seed: int) -> list[dict[str, Any]]:
        events = random_events(seed)
        number = opened(served)
        random = np.random.default_rng(seed)
        answers = []
        for sequence, part in enumerate(cuts(events, random.integers(0, 400, 8))):
            response = send(served, number, sequence, packed(part))
            assert response.status_code == 200, response.text
            answers.append(response.json())
        answers.append(send(served, number, len(answers), b"", until_us=600_000).json())
        served.client.delete(f"/v1/streams/{number}")
        return answers

    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(one, range(16)))
    for seed, got in enumerate(answers):
        # JSON has boxes to a thousandth of a pixel and scores to a millionth
        assert_same(windows(*got), offline(random_events(seed), 12))


def test_streams_beyond_the_limit_are_refused_until_one_is_closed(served: Served) -> None:
    numbers = [opened(served) for _ in range(24)]
    refused = served.client.post("/v1/models/fading/streams")
    assert problem(refused) == (429, "too_many_streams")
    assert int(refused.headers["retry-after"]) >= 1
    served.client.delete(f"/v1/streams/{numbers.pop()}")
    numbers.append(opened(served))
    for number in numbers:
        served.client.delete(f"/v1/streams/{number}")


def test_an_idle_stream_is_gone(tmp_path: Any) -> None:
    with serving(tiny_stream_repository(tmp_path).root, stream_idle_s=0.1) as served:
        number = opened(served)
        until(lambda: served.client.get(f"/v1/streams/{number}").status_code == 410)
        assert send(served, number, 0, ONE_EVENT).json()["reason"] == "idle"


def test_a_swap_keeps_streams_and_unloading_ends_them(tmp_path: Any) -> None:
    repository = tiny_stream_repository(tmp_path)
    with serving(repository.root) as served:
        old = opened(served)
        add_tiny_stream_version(repository, model=TinyStreamModel(score_scale=0.5))
        until(lambda: served.client.get("/v1/models/fading").json()["version"] == 2)
        new = opened(served)
        scores = [
            send(served, number, 0, ONE_EVENT, until_us=50_000).json()["windows"][0]["detections"][0]["score"]
            for number in (old, new)
        ]
        assert scores == [0.5, 0.25]
        assert served.metric("sightline_detector_streams_open", model="fading") == 2
        assert served.client.post("/v2/repository/models/fading/unload").status_code == 200
        for number in (old, new):
            gone = send(served, number, 1, ONE_EVENT)
            assert (problem(gone), gone.json()["reason"]) == ((410, "stream_gone"), "unloaded")
        assert problem(served.client.post("/v1/models/fading/streams")) == (503, "model_not_ready")
        assert "sightline_detector_streams_open{" not in served.client.get("/metrics").text


def test_stopping_does_not_wait_for_streams(tmp_path: Any) -> None:
    stopped = threading.Event()

    def scenario() -> None:
        with serving(tiny_stream_repository(tmp_path).root) as served:
            opened(served)
        stopped.set()

    thread = threading.Thread(target=scenario)
    thread.start()
    thread.join(20)
    assert stopped.is_set()
