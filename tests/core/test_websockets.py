"""WebSockets through the shell and the real server, with an unmodified client."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import APIRouter, FastAPI, WebSocket
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from shared.core import draining_socket
from shared.core.http import PROBLEM_JSON, create_service
from shared.core.problems import QueueFull
from shared.core.server import server_config
from shared.core.settings import CommonSettings

LIMIT_BYTES = 1000
router = APIRouter(prefix="/v1")


@router.websocket("/echo/{name}")
async def echo(name: str, socket: WebSocket) -> None:
    await socket.accept()
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            break
        await socket.send_text(f"{name}: {message.get('text')}")
    if message["code"] == 1012:  # the server stops and waits for this
        await socket.send_text("last words")
        await socket.close(1012, "the server stops")


@router.websocket("/full")
async def full(socket: WebSocket) -> None:
    raise QueueFull("64 streams are open", retry_after_s=3)


@router.websocket("/broken")
async def broken(socket: WebSocket) -> None:
    await socket.accept()
    await socket.receive()
    raise KeyError("a secret that callers must not see")


@router.websocket("/broken/at/once")
async def broken_at_once(socket: WebSocket) -> None:
    raise KeyError("a secret that callers must not see")


@router.websocket("/flood")
async def flood(socket: WebSocket) -> None:
    """Sends more than any buffer holds, and gives up on who does not read it."""
    await socket.accept()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            while True:
                await socket.send_bytes(bytes(1 << 20))


@dataclass(frozen=True, slots=True)
class Sockets:
    """A running service."""

    server: uvicorn.Server
    address: str

    def connect(self, path: str, **headers: str) -> ClientConnection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return connect(f"ws://{self.address}{path}", additional_headers=named, proxy=None)

    def refused(self, path: str, **headers: str) -> httpx.Response:
        """Return the HTTP response to a handshake that must not succeed."""
        with pytest.raises(InvalidStatus) as refusal, self.connect(path, **headers):
            pass
        answer = refusal.value.response
        sent = list(answer.headers.raw_items())
        return httpx.Response(answer.status_code, headers=sent, content=bytes(answer.body))

    def counts(self, name: str) -> dict[tuple[str, ...], float]:
        text = httpx.get(f"http://{self.address}/metrics", trust_env=False).text
        return {
            tuple(sample.labels.get(label, "") for label in ("method", "route", "status")): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        }


@contextlib.contextmanager
def serving(*, websockets: bool = True, drain_s: float = 5.0, **settings: Any) -> Iterator[Sockets]:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> Any:
        yield

    app = create_service(
        name="sample",
        title="Sample",
        settings=CommonSettings(**settings),
        lifespan=lifespan,
        routers=[router],
        ready=lambda _: [],
        max_body_bytes=LIMIT_BYTES,
        websockets=websockets,
    )
    server = uvicorn.Server(server_config(app, drain_s=drain_s))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 10
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield Sockets(server, f"127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive(), "the server did not stop"


@pytest.fixture(scope="module")
def sockets() -> Iterator[Sockets]:
    with serving() as sockets:
        yield sockets


@pytest.fixture(scope="module")
def with_key() -> Iterator[Sockets]:
    with serving(api_keys="right") as sockets:
        yield sockets


def test_a_registered_websocket_answers_and_has_a_request_id(sockets: Sockets) -> None:
    with sockets.connect("/v1/echo/a", X_Request_Id="abc-1") as client:
        client.send("hello")
        assert client.recv(5) == "a: hello"
        assert client.response is not None
        assert client.response.headers["x-request-id"] == "abc-1"
    with sockets.connect("/v1/echo/a") as client:
        assert client.response is not None
        assert client.response.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/nowhere", "/livez", "/v1/echo"])
def test_a_path_without_a_websocket_answers_404(sockets: Sockets, path: str) -> None:
    refused = sockets.refused(path)
    assert (refused.status_code, refused.json()["type"]) == (404, "urn:sightline:problem:not_found")
    assert refused.json()["instance"] == path


def test_a_problem_before_the_handshake_is_its_http_response(sockets: Sockets) -> None:
    refused = sockets.refused("/v1/full", X_Request_Id="abc-2")
    assert refused.status_code == 429
    assert refused.headers["content-type"] == PROBLEM_JSON
    assert refused.headers["retry-after"] == "3"
    assert refused.headers["x-request-id"] == refused.json()["request_id"] == "abc-2"
    broken = sockets.refused("/v1/broken/at/once")
    assert broken.status_code == 500
    assert "secret" not in broken.text


def test_without_a_valid_key_no_websocket_is_opened(with_key: Sockets) -> None:
    for headers in ({}, {"X_API_Key": "wrong"}, {"Authorization": "Basic right"}):
        refused = with_key.refused("/v1/echo/a", **headers)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert with_key.refused("/nowhere").status_code == 401  # nothing is told of which paths there are
    for headers in ({"X_API_Key": "right"}, {"Authorization": "Bearer right"}):
        with with_key.connect("/v1/echo/a", **headers) as client:
            client.send("hello")
            assert client.recv(5) == "a: hello"


def test_another_sites_page_opens_no_websocket(sockets: Sockets) -> None:
    own = sockets.address
    for headers in (
        {"Origin": "http://elsewhere.example"},
        {"Origin": f"http://{own}.elsewhere.example"},
        {"Origin": "null"},
        {"Origin": f"http://{own}", "Sec_Fetch_Site": "cross-site"},
    ):
        refused = sockets.refused("/v1/echo/a", **headers)
        assert (refused.status_code, refused.json()["type"]) == (403, "urn:sightline:problem:cross_site")
    for headers in (
        {"Origin": f"http://{own}"},
        {"Origin": f"https://{own.upper()}"},
        {"Origin": "http://page.example", "Sec_Fetch_Site": "same-site"},
        {},
    ):
        with sockets.connect("/v1/echo/a", **headers):
            pass


@pytest.mark.parametrize(
    ("request_line", "header", "status"),
    [
        ("GET /v1/echo/a", "X-Long: " + "a" * 9000, 431),
        ("GET /v1/echo/a", "\r\n".join(f"X-{number}: a" for number in range(200)), 431),
        (f"GET /v1/echo/{'a' * 9000}", "X-Short: a", 414),
        ("GET /v1/echo/a", "Content-Length: 5", 400),
        ("GET /v1/echo/a", "Transfer-Encoding: chunked", 400),
        ("POST /v1/echo/a", "Content-Length: 0", 405),
    ],
)
def test_a_handshake_that_cannot_be_read_is_answered_and_closed(
    sockets: Sockets, request_line: str, header: str, status: int
) -> None:
    host, _, port = sockets.address.partition(":")
    handshake = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
    with socket.create_connection((host, int(port)), timeout=5) as client:
        client.sendall(f"{request_line} HTTP/1.1\r\nHost: {host}\r\n{handshake}\r\n{header}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_service_that_has_none_answers_as_to_any_other_request() -> None:
    with serving(websockets=False) as sockets:
        refused = sockets.refused("/v1/echo/a")
        assert (refused.status_code, refused.headers["content-type"]) == (404, PROBLEM_JSON)


@pytest.mark.parametrize("size", [LIMIT_BYTES + 1, 1000 * LIMIT_BYTES])
def test_a_message_at_the_limit_passes_and_more_closes_with_1009(sockets: Sockets, size: int) -> None:
    with sockets.connect("/v1/echo/a") as client:
        client.send("a" * LIMIT_BYTES)
        assert len(client.recv(5)) == LIMIT_BYTES + len("a: ")
        with contextlib.suppress(ConnectionClosed):  # the server need not wait for all of it
            client.send("a" * size)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    assert list(sockets.counts("sightline_http_requests_in_flight").values()) == [1]


NO_MASK = bytes(4)  # a mask of zeros changes nothing


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        (b"\x81\x01a", 1002),  # without a mask, which clients have to use
        (b"\x83\x80" + NO_MASK, 1002),  # an opcode that does not exist
        (b"\x81\x81" + NO_MASK + b"\xff", 1007),  # text that is not UTF-8
        (b"\x01\x81" + NO_MASK + b"a" + b"\x00\xfe\x03\xe8" + NO_MASK + b"a" * 1000, 1009),  # in two frames
    ],
)
def test_what_is_no_message_is_refused_with_its_code(sockets: Sockets, frames: bytes, code: int) -> None:
    with sockets.connect("/v1/echo/a") as client:
        client.socket.sendall(frames)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code


def test_a_message_in_several_frames_is_one_message(sockets: Sockets) -> None:
    with sockets.connect("/v1/echo/a") as client:
        client.send(iter(["one ", "two ", "three"]))
        assert client.recv(5) == "a: one two three"


def test_a_fault_of_the_server_closes_with_1011_and_tells_nothing_of_its_inside(sockets: Sockets) -> None:
    with sockets.connect("/v1/broken", X_Request_Id="abc-3") as client:
        client.send("hello")
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "abc-3")


def test_handshakes_are_counted_by_route_and_open_sockets_are_in_flight() -> None:
    with serving() as sockets:
        # The request for the metrics is in flight, too.
        assert list(sockets.counts("sightline_http_requests_in_flight").values()) == [1]
        with sockets.connect("/v1/echo/a"), sockets.connect("/v1/echo/b"):
            assert list(sockets.counts("sightline_http_requests_in_flight").values()) == [3]
            counts = sockets.counts("sightline_http_requests_total")
            assert counts["WEBSOCKET", "/v1/echo/{name}", "101"] == 2
        assert sockets.refused("/v1/full").status_code == 429
        assert sockets.refused("/nowhere").status_code == 404
        counts = sockets.counts("sightline_http_requests_total")
        assert counts["WEBSOCKET", "/v1/full", "429"] == 1
        assert counts["WEBSOCKET", "unmatched", "404"] == 1


def test_a_server_that_stops_lets_open_websockets_finish() -> None:
    with serving() as sockets, sockets.connect("/v1/echo/a") as client:
        client.send("hello")
        sockets.server.should_exit = True
        assert client.recv(5) == "a: hello"
        assert client.recv(5) == "last words"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1012, "the server stops")


def test_a_client_that_goes_without_a_word_leaves_nothing_behind() -> None:
    with serving() as sockets:
        with sockets.connect("/v1/echo/a") as client:
            client.socket.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 5
        while list(sockets.counts("sightline_http_requests_in_flight").values()) != [1]:
            assert time.monotonic() < deadline


def test_a_client_that_reads_nothing_does_not_hold_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining_socket, "_CLOSING_S", 0.1)
    with serving() as sockets:
        host, _, port = sockets.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as client:
            key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            upgrade = f"Host: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}"
            client.sendall(f"GET /v1/flood HTTP/1.1\r\n{upgrade}\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 101"
            assert sockets.server.server_state.connections
            deadline = time.monotonic() + 5
            while sockets.server.server_state.connections:
                assert time.monotonic() < deadline
                time.sleep(0.01)
