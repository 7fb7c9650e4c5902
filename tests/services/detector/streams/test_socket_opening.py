"""How a stream is opened by a WebSocket, and who is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.serving import Served, serving
from tests.services.detector.streams.sockets import (
    FROM_ZERO,
    ONE_EVENT,
    STREAM,
    Socket,
    connected,
    open_streams,
    opened,
    refused,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_stream_repository(tmp_path_factory.mktemp("sockets"))
    add_tiny_version(repository, "tiny")
    with serving(repository.root, max_streams=12, max_body_bytes=100_000) as served:
        yield served


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
