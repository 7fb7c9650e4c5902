"""How a stream over a WebSocket ends, whoever ends it."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import TinyStreamModel, add_tiny_stream_version, tiny_stream_repository
from tests.services.detector.serving import Gate, Served, gated, serving, until
from tests.services.detector.streams.recordings import (
    assert_same,
    events_at,
    offline,
    packed,
    random_events,
)
from tests.services.detector.streams.sockets import (
    STREAM,
    Socket,
    connected,
    found,
    is_computing,
    open_streams,
    opened,
)


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


def test_a_model_that_fails_ends_the_stream_with_1011(tmp_path: Path) -> None:
    repository = tiny_stream_repository(tmp_path, model=TinyStreamModel(nan_from=2))
    with serving(repository.root) as served, opened(served) as stream:
        stream.send(packed(events_at((1, 5, 5, 1))))
        stream.send(packed(events_at((2, 5, 5, 1), (3, 5, 5, 1))))
        stream.send({"until_us": 50_000})
        stream.send({"until_us": 100_000})  # is on its way when the one before fails
        assert [stream.said()["sequence"] for _ in range(2)] == [0, 1]
        problem = stream.said()["problem"]
        assert (problem["status"], problem["type"]) == (500, "urn:sightline:problem:inference_failed")
        assert stream.closed()[0] == 1011
        until(lambda: open_streams(served) == 0)


def test_room_is_waited_for_and_not_for_ever(tmp_path: Path, gate: Gate) -> None:
    events = events_at(*[(10_000, 1, 1, 1)] * 100, (60_000, 2, 2, 1))
    chunk = packed(events)  # completes a window, and no second one fits
    limits = {"max_held_bytes": len(chunk) + 1, "max_body_bytes": 10_000}
    with (
        serving(tiny_stream_repository(tmp_path).root, deadline_s=1.0, **limits) as served,
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
