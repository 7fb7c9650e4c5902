"""Streams over WebSockets, with an unmodified client against a running detector."""

import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from services.detector.schemas import ChunkDetections, StreamView
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import (
    LABELS,
    TinyStreamModel,
    add_tiny_stream_version,
    tiny_stream_repository,
)
from tests.services.detector.serving import Gate, Served, gated, serving, until
from tests.services.detector.streams.recordings import (
    Offline,
    assert_same,
    cuts,
    events_at,
    offline,
    packed,
    random_events,
)

STREAM = "/v1/models/fading/stream"
FROM_ZERO = f"{STREAM}?start_us=0"
ONE_EVENT = packed(events_at((10_000, 30, 7, 1)))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_stream_repository(tmp_path_factory.mktemp("sockets"))
    add_tiny_version(repository, "tiny")
    with serving(repository.root, max_streams=12, max_body_bytes=100_000) as served:
        yield served


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with gated(monkeypatch) as gate:
        yield gate


@contextlib.contextmanager
def opened(served: Served, path: str = FROM_ZERO, **headers: str) -> Iterator["Socket"]:
    """A stream that has said what it is."""
    with connected(served, path, **headers) as client:
        yield Socket(client, said(client))


@contextlib.contextmanager
def connected(served: Served, path: str, **headers: str) -> Iterator[ClientConnection]:
    url = served.url.replace("http", "ws") + path
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with connect(url, additional_headers=named, proxy=None, max_size=None) as client:
        yield client


class Socket:
    """A connection and what the server said when the stream was opened."""

    def __init__(self, client: ClientConnection, view: dict[str, Any]) -> None:
        self.client = client
        self.view = view

    def ask(self, message: bytes | dict[str, Any]) -> dict[str, Any]:
        self.send(message)
        return self.said()

    def send(self, message: bytes | dict[str, Any]) -> None:
        self.client.send(message if isinstance(message, bytes) else json.dumps(message))

    def said(self) -> dict[str, Any]:
        return said(self.client)

    def closed(self) -> tuple[int, str]:
        """Return the code and the reason with which the server closes, after nothing more."""
        with pytest.raises(ConnectionClosed) as end:
            self.client.recv(10)
        assert end.value.rcvd is not None, "the server went without a word"
        return end.value.rcvd.code, end.value.rcvd.reason


def said(client: ClientConnection) -> dict[str, Any]:
    message = client.recv(10)
    assert isinstance(message, str)
    document: dict[str, Any] = json.loads(message)
    return document


def refused(served: Served, path: str, **headers: str) -> httpx.Response:
    """Return the HTTP response to a handshake that must not succeed."""
    with pytest.raises(InvalidStatus) as refusal, connected(served, path, **headers):
        pass
    answer = refusal.value.response
    sent = list(answer.headers.raw_items())
    return httpx.Response(answer.status_code, headers=sent, content=bytes(answer.body))


def found(*answers: dict[str, Any]) -> Offline:
    """Return the windows of answers as boxes, scores and labels, after a look at their form."""
    windows: Offline = []
    for answer in answers:
        ChunkDetections.model_validate(answer)
        for window in answer["windows"]:
            one = window["detections"]
            boxes = np.array([list(item["box"].values()) for item in one]).reshape(-1, 4)
            scores = np.array([item["score"] for item in one])
            labels = np.array([LABELS.index(item["label"]) for item in one], np.int64)
            windows.append((boxes, scores, labels))
    return windows


def open_streams(served: Served) -> float:
    return served.metric("sightline_detector_streams_open")


def dat(events: Events) -> bytes:
    """Return events as Prophesee's records of 8 bytes."""
    words = events.x.astype(np.uint32) | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
    return np.stack([events.t.astype(np.uint32), words], axis=1).astype("<u4").tobytes()


# What is sent and answered


def test_the_stream_says_what_it_is_whether_query_or_first_message_opens_it(served: Served) -> None:
    options = {"start_us": 5, "score_threshold": 0.4, "sensor": {"height": 32, "width": 48}}
    with opened(served, f"{STREAM}?start_us=5&score_threshold=0.4&sensor_height=32&sensor_width=48") as one:
        by_query = one.view
        StreamView.model_validate(by_query)
    with connected(served, "/v1/models/fading/versions/live/stream") as client:
        client.send(json.dumps(options))
        by_message = said(client)
    for view in (by_query, by_message):
        assert (view["model"], view["version"], view["window_us"]) == ("fading", 1, 50_000)
        assert view["sensor"] == {"height": 32, "width": 48}
        assert (view["start_us"], view["next_sequence"], view["idle_limit_s"]) == (5, 0, 60.0)
    assert by_query["id"] != by_message["id"]


def test_chunks_cut_anywhere_give_the_answers_of_the_graph_alone(served: Served) -> None:
    events = random_events(1)
    parts = cuts(events, np.random.default_rng(1).integers(0, len(events), 15))
    with opened(served) as stream:
        answers = [stream.ask(packed(part)) for part in parts]
        answers.append(stream.ask({"until_us": 600_000}))
        assert [answer["sequence"] for answer in answers] == list(range(17))
        assert {answer["stream"] for answer in answers} == {stream.view["id"]}
    assert_same(found(*answers), offline(events, 12))
    spans = [(window["start_us"], window["end_us"]) for answer in answers for window in answer["windows"]]
    assert spans == [(50_000 * index, 50_000 * (index + 1)) for index in range(12)]


def test_dat_records_and_whole_windows_give_the_same_answers(served: Served) -> None:
    events = random_events(2)
    expected = offline(events, 12)
    with opened(served, f"{FROM_ZERO}&format=dat") as stream:
        answers = [stream.ask(b"% Width 48\n% Height 32\n\x0c\x08" + dat(events[:100]))]
        answers += [stream.ask(dat(events[100:])), stream.ask({"until_us": 600_000})]
        assert_same(found(*answers), expected)
    frames = [
        stacked_histogram(events.between(start, start + 50_000), (32, 48), bins=2).tobytes()
        for start in range(0, 600_000, 50_000)
    ]
    with opened(served, f"{FROM_ZERO}&format=histograms") as stream:
        answers = [stream.ask(b"".join(frames[:5])), stream.ask(b"".join(frames[5:]))]
        assert_same(found(*answers), expected)
        assert "until_us belongs to events" in stream.ask({"until_us": 700_000})["problem"]["detail"]


def test_what_is_sent_without_waiting_is_answered_in_order(served: Served) -> None:
    events = random_events(3)
    parts = cuts(events, range(4, len(events), 4))
    assert len(parts) == 100  # more than is read ahead
    with opened(served) as stream:
        for part in parts:
            stream.send(packed(part))
        stream.send({"until_us": 600_000})
        stream.send({"close": True})
        answers = [stream.said() for _ in range(101)]
        assert [answer["sequence"] for answer in answers] == list(range(101))
        assert_same(found(*answers), offline(events, 12))
        goodbye = {"closed": True, "stream": stream.view["id"], "windows": 12, "pending_events": 0}
        assert stream.said() == goodbye
        assert stream.closed() == (1000, "")


def test_interleaved_streams_answer_as_alone(served: Served) -> None:
    def run(seed: int) -> None:
        events = random_events(seed)
        random = np.random.default_rng(seed)
        parts = cuts(events, random.integers(0, len(events), int(random.integers(5, 40))))
        with opened(served) as stream:
            answers = [stream.ask(packed(part)) for part in parts] + [stream.ask({"until_us": 600_000})]
        assert_same(found(*answers), offline(events, 12))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(10, 18)))


def test_thresholds_are_those_of_the_stream(served: Served) -> None:
    with opened(served, f"{FROM_ZERO}&score_threshold=0.4") as stream:
        stream.ask(ONE_EVENT)
        windows = stream.ask({"until_us": 100_000})["windows"]
    assert [len(window["detections"]) for window in windows] == [1, 0]  # 1/2 and 1/3


# What is wrong with a message


@pytest.mark.parametrize(
    ("message", "status", "words"),
    [
        (ONE_EVENT[:-1], 422, "12 bytes are no whole number of records"),
        (packed(events_at((60_000, 48, 7, 1))), 422, "column 48"),
        (packed(events_at((60_000, 3, 7, 1), (50_000, 3, 7, 1))), 422, "in order of time"),
        (packed(events_at((2**40, 3, 7, 1))), 413, "one chunk may complete"),
        ({"until_us": -1}, 422, "until_us"),
        ({"until_us": 0.5}, 422, "until_us"),
        ({"until_us": 5}, 422, "has to be a time from 10000"),
        ({"close": False}, 422, "close"),
        ({"until_us": 1, "close": True}, 422, "say"),
        ({}, 422, "say"),
        ({"flush": True}, 422, "flush"),
        ([1], 422, "object"),
    ],
)
def test_a_wrong_message_is_answered_and_the_stream_goes_on(
    served: Served, message: Any, status: int, words: str
) -> None:
    with opened(served, X_Request_Id="north-7") as stream:
        assert stream.ask(ONE_EVENT)["sequence"] == 0
        answer = stream.ask(message)
        assert answer.keys() == {"sequence", "problem"}
        assert (answer["sequence"], answer["problem"]["status"]) == (1, status)
        assert words in answer["problem"]["detail"]
        assert answer["problem"]["instance"] == STREAM
        assert answer["problem"]["request_id"] == "north-7"
        answer = stream.ask({"until_us": 50_000})
        assert answer["sequence"] == 1
        assert_same(found(answer), offline(events_at((10_000, 30, 7, 1)), 1))


def test_text_that_is_no_json_is_answered_too(served: Served) -> None:
    with opened(served) as stream:
        stream.client.send("{")
        assert "JSON" in stream.said()["problem"]["detail"]
        assert stream.ask(ONE_EVENT)["sequence"] == 0


def test_a_message_past_the_limit_ends_the_stream(served: Served) -> None:
    before = open_streams(served)
    with opened(served) as stream:
        with contextlib.suppress(ConnectionClosed):
            stream.client.send(b"\0" * 100_001)
        assert stream.closed()[0] == 1009
        until(lambda: open_streams(served) == before)


# How a stream is opened


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v1/models/nothing/stream", 404, "unknown_model"),
        ("/v1/models/nothing/stream?start_us=0", 404, "unknown_model"),
        ("/v1/models/fading/versions/9/stream", 404, "unknown_version"),
        ("/v1/models/tiny/stream", 409, "wrong_task"),
        ("/v1/models/tiny/stream?start_us=0", 409, "wrong_task"),
        (f"{STREAM}?start_us=now", 422, "unprocessable_content"),
        (f"{STREAM}?sensor_height=32", 422, "unprocessable_content"),
        (f"{STREAM}?format=mp4", 422, "unprocessable_content"),
        (f"{STREAM}?colour=red", 422, "unprocessable_content"),
        (f"{STREAM}?start_us=1&start_us=2", 400, "bad_request"),
        (f"{STREAM}?sensor_height=480&sensor_width=640", 422, "wrong_sensor"),
        ("/v1/models/fading/streams", 404, "not_found"),
    ],
)
def test_what_the_handshake_can_tell_is_refused_with_a_status(
    served: Served, path: str, status: int, code: str
) -> None:
    refusal = refused(served, path)
    document = refusal.json()
    assert (refusal.status_code, document["type"]) == (status, f"urn:sightline:problem:{code}")
    assert document["request_id"] == refusal.headers["x-request-id"]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (ONE_EVENT, "the first message has to be text"),
        ('{"format": "mp4"}', "format"),
        ('{"sensor": {"height": 1, "width": 1}}', "sensor of 48 x 32"),
        ("nothing", "JSON"),
    ],
)
def test_a_wrong_first_message_closes_with_1008(served: Served, message: str | bytes, words: str) -> None:
    before = open_streams(served)
    with connected(served, STREAM) as client:
        client.send(message)
        stream = Socket(client, {})
        assert words in stream.said()["problem"]["detail"]
        assert stream.closed()[0] == 1008
    assert open_streams(served) == before


def test_a_client_that_never_says_what_it_wants_is_not_waited_for(tmp_path: Path) -> None:
    with (
        serving(tiny_stream_repository(tmp_path).root, body_timeout_s=0.1) as served,
        connected(served, STREAM) as client,
    ):
        stream = Socket(client, {})
        assert stream.said()["problem"]["status"] == 408
        assert stream.closed()[0] == 1008


def test_past_the_limit_of_streams_none_is_opened(tmp_path: Path) -> None:
    with serving(tiny_stream_repository(tmp_path).root, max_streams=1) as served, opened(served):
        refusal = refused(served, FROM_ZERO)
        assert refusal.status_code == 429
        assert int(refusal.headers["retry-after"]) >= 1
        with connected(served, STREAM) as client:
            client.send("{}")
            stream = Socket(client, {})
            assert "SIGHTLINE_DETECTOR_MAX_STREAMS" in stream.said()["problem"]["detail"]
            assert stream.closed() == (1013, "Too many open streams")


def test_a_stream_wants_the_key_and_no_other_sites_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_API_KEYS", "secret")
    with serving(tiny_stream_repository(tmp_path).root) as served:
        assert refused(served, FROM_ZERO).status_code == 401
        assert refused(served, f"{FROM_ZERO}&api_key=secret").status_code == 401
        with opened(served, Authorization="Bearer secret") as stream:
            assert stream.ask(ONE_EVENT)["sequence"] == 0
        foreign = refused(served, FROM_ZERO, X_API_Key="secret", Origin="http://elsewhere.example")
        assert foreign.status_code == 403


# How a stream ends


def test_a_client_that_leaves_ends_its_stream_at_once_and_what_is_computed_for_it(
    tmp_path: Path, gate: Gate
) -> None:
    with serving(tiny_stream_repository(tmp_path).root, instances=1) as served:
        with opened(served) as stream, opened(served) as other:
            gate.close()
            other.send({"until_us": 50_000})  # is with the model
            until(lambda: served.metric("sightline_detector_queue_depth") == 0)
            stream.send({"until_us": 200_000})  # waits behind it
            until(lambda: served.metric("sightline_detector_queue_depth") == 1)
            stream.client.close()
            until(lambda: open_streams(served) == 1)
            assert served.metric("sightline_detector_queue_depth") == 0
            gate.open()
            assert other.said()["sequence"] == 0
        until(lambda: open_streams(served) == 0)
        assert served.metric("sightline_detector_streams_ended_total", reason="client") == 2


def test_a_stream_that_nothing_comes_for_is_ended(tmp_path: Path) -> None:
    with (
        serving(tiny_stream_repository(tmp_path).root, stream_idle_s=0.2) as served,
        opened(served) as stream,
    ):
        problem = stream.said()["problem"]
        assert (problem["status"], problem["reason"]) == (410, "idle")
        assert "SIGHTLINE_DETECTOR_STREAM_IDLE_S" in problem["detail"]
        assert stream.closed() == (1008, "The stream has ended")


def test_a_stream_may_be_closed_by_its_id(served: Served) -> None:
    with opened(served) as stream:
        assert served.client.delete(f"/v1/streams/{stream.view['id']}").status_code == 204
        assert stream.said()["problem"]["reason"] == "client"
        assert stream.closed()[0] == 1008


def test_unloading_the_model_closes_with_1012(tmp_path: Path) -> None:
    with serving(tiny_stream_repository(tmp_path).root) as served, opened(served) as stream:
        assert served.client.post("/v2/repository/models/fading/unload").status_code == 200
        problem = stream.said()["problem"]
        assert (problem["status"], problem["reason"]) == (410, "unloaded")
        assert stream.closed()[0] == 1012


def test_a_server_that_stops_answers_what_has_arrived_and_closes_with_1012(
    tmp_path: Path, gate: Gate
) -> None:
    with contextlib.ExitStack() as sockets:
        with serving(tiny_stream_repository(tmp_path).root) as served:
            busy = sockets.enter_context(opened(served))
            idle = sockets.enter_context(opened(served))
            unopened = Socket(sockets.enter_context(connected(served, STREAM)), {})
            gate.close()
            for until_us in (50_000, 100_000, 150_000):
                busy.send({"until_us": until_us})
            until(lambda: is_computing(served, busy))
            threading.Timer(0.3, gate.open).start()  # by then the server has been told to stop
        assert [busy.said()["sequence"] for _ in range(3)] == [0, 1, 2]
        for socket in (busy, idle, unopened):
            assert socket.said()["problem"]["type"] == "urn:sightline:problem:draining"
            assert socket.closed()[0] == 1012


def test_a_stream_stays_on_its_version_when_another_goes_live(tmp_path: Path) -> None:
    repository = tiny_stream_repository(tmp_path)
    events = random_events(4)
    with serving(repository.root) as served, opened(served) as stream:
        answers = [stream.ask(packed(events[:200]))]
        add_tiny_stream_version(repository, model=TinyStreamModel(score_scale=0.5))
        until(lambda: served.client.get("/v1/models/fading").json()["version"] == 2)
        with opened(served) as newer:
            assert newer.view["version"] == 2
        answers += [stream.ask(packed(events[200:])), stream.ask({"until_us": 600_000})]
        assert {answer["version"] for answer in answers} == {1}
        assert_same(found(*answers), offline(events, 12))


def test_room_is_waited_for_and_not_for_ever(tmp_path: Path, gate: Gate) -> None:
    events = events_at(*[(10_000, 1, 1, 1)] * 100, (60_000, 2, 2, 1))
    chunk = packed(events)  # completes a window, and no second one fits
    limits = {"max_held_bytes": len(chunk) + 1, "max_body_bytes": 10_000}
    with (
        serving(tiny_stream_repository(tmp_path).root, deadline_s=0.5, **limits) as served,
        opened(served) as first,
        opened(served) as second,
        opened(served) as third,
    ):
        gate.close()
        first.send(chunk)
        until(lambda: is_computing(served, first))
        second.send(chunk)
        assert second.said()["problem"]["status"] == 429
        assert second.closed() == (1013, "Queue full")
        third.send(chunk)
        gate.open()
        for stream in (first, third):
            assert_same(found(stream.said()), offline(events, 1))


def is_computing(served: Served, stream: Socket) -> bool:
    """Return whether a window is with the model; a stream that waits is idle since it was last asked."""
    return served.client.get(f"/v1/streams/{stream.view['id']}").json()["idle_s"] == 0
