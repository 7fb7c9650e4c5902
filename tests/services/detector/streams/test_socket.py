"""What is sent over the WebSocket of a stream, and what is answered."""

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from services.detector.schemas import StreamView
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.serving import Served, serving, until
from tests.services.detector.streams.recordings import (
    assert_same,
    cuts,
    events_at,
    offline,
    packed,
    random_events,
)
from tests.services.detector.streams.sockets import (
    FROM_ZERO,
    ONE_EVENT,
    STREAM,
    connected,
    found,
    open_streams,
    opened,
    said,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_stream_repository(tmp_path_factory.mktemp("sockets"))
    add_tiny_version(repository, "tiny")
    with serving(repository.root, max_streams=12, max_body_bytes=100_000) as served:
        yield served


def dat(events: Events) -> bytes:
    """Return events as Prophesee's records of 8 bytes."""
    words = events.x.astype(np.uint32) | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
    return np.stack([events.t.astype(np.uint32), words], axis=1).astype("<u4").tobytes()


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
