"""Whatever becomes of a request, its share of the memory for bodies is free again afterwards."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.tiny_detection_model import TinyModel, tiny_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Served, serving, until

PICTURE = encode(two_rectangles())
LIMIT_BYTES = 200_000


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Has room for one body of undeclared length, and that only while no other byte is held."""
    root = tmp_path_factory.mktemp("admission")
    with serving(
        tiny_repository(root).root,
        max_body_bytes=LIMIT_BYTES,
        max_held_bytes=LIMIT_BYTES,
        body_timeout_s=1.0,
        max_batch_images=2,
    ) as served:
        yield served


def nothing_is_held(served: Served) -> bool:
    undeclared = served.client.post("/v1/models/tiny/detect", content=iter([PICTURE]))
    assert undeclared.status_code in (200, 429), undeclared.text
    return undeclared.status_code == 200


def exchange(served: Served, request: bytes, *, path: str = "/v1/models/tiny/detect") -> bytes:
    """Send the headers and bytes of `request`; return the status line, b"" where nothing came back."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode() + request)
        return connection.recv(65536).partition(b"\r\n")[0]


def leave(served: Served, request: bytes) -> None:
    """Send `request` and go at once."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /v1/models/tiny/detect HTTP/1.1\r\nHost: x\r\n" + request)


FORM = b"Content-Type: multipart/form-data; boundary=x\r\n"
ENDINGS: dict[str, Callable[[Served], object]] = {
    "answered": lambda served: served.detect(PICTURE),
    "no picture": lambda served: served.detect(b"no picture"),
    "empty": lambda served: served.detect(b""),
    "unknown model": lambda served: served.detect(bytes(150_000), model="tinny"),
    "wrong threshold": lambda served: served.detect(bytes(150_000), score_threshold="nan"),
    "not acceptable": lambda served: served.client.post(
        "/v1/models/tiny/detect", content=bytes(150_000), headers={"Accept": "text/html"}
    ),
    "over the limit": lambda served: served.detect(bytes(LIMIT_BYTES + 1)),
    "over the limit, undeclared": lambda served: served.client.post(
        "/v1/models/tiny/detect", content=iter([bytes(50_000)] * 5)
    ),
    "too many pictures": lambda served: served.client.post(
        "/v1/models/tiny/detect/batch", files=[("images", PICTURE)] * 3
    ),
    "wrong field": lambda served: served.client.post("/v1/models/tiny/detect", files={"picture": PICTURE}),
    "body stops": lambda served: exchange(served, b"Content-Length: 1000\r\n\r\nsome"),
    "form stops": lambda served: exchange(
        served, FORM + b'Content-Length: 1000\r\n\r\n--x\r\nContent-Disposition: form-data; name="image"'
    ),
    "broken form": lambda served: exchange(served, FORM + b"Content-Length: 5\r\n\r\nhello"),
    "broken chunk": lambda served: exchange(
        served, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"
    ),
    "gone before the body": lambda served: leave(served, b"Content-Length: 1000\r\n\r\n"),
    "gone within the body": lambda served: leave(served, b"Content-Length: 1000\r\n\r\nsome"),
    "gone within a form": lambda served: leave(served, FORM + b"Content-Length: 1000\r\n\r\n--x\r\n"),
    "gone within a chunk": lambda served: leave(served, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhel"),
    "gone before the answer": lambda served: leave(
        served, b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE
    ),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_request_that_is_over_holds_nothing(served: Served, ending: Callable[[Served], object]) -> None:
    for _ in range(2):
        ending(served)
    until(lambda: nothing_is_held(served), seconds=5)
    until(lambda: served.metric("sightline_http_requests_in_flight") == 1)  # the scrape itself


def test_a_body_that_stops_is_answered_408_and_one_without_end_413(served: Served) -> None:
    assert exchange(served, b"Content-Length: 1000\r\n\r\nsome") == b"HTTP/1.1 408 Request Timeout"
    endless = b"Transfer-Encoding: chunked\r\n\r\n" + b"c350\r\n%s\r\n" % bytes(50_000) * 5
    assert exchange(served, endless).startswith(b"HTTP/1.1 413 ")


def test_requests_that_wait_or_have_no_time_hold_nothing_afterwards(tmp_path: Path) -> None:
    slow = tiny_repository(tmp_path, model=TinyModel(matmuls=120))
    with serving(
        slow.root,
        instances=1,
        max_body_bytes=LIMIT_BYTES,
        max_held_bytes=LIMIT_BYTES,
        deadline_s=0.05,
        compute_timeout_s=0.01,
    ) as served:
        assert served.detect(PICTURE).status_code == 504
        undeclared = served.client.post("/v1/models/tiny/detect", content=iter([PICTURE]))
        assert undeclared.status_code == 504  # let in, since nothing was held, and late in its turn


def test_refused_bodies_leave_their_connection_to_the_next_request(served: Served) -> None:
    """One connection alternates between a refusal before the body was read and a picture."""
    host, port = served.url.removeprefix("http://").split(":")
    refused = b"POST /v1/models/tinny/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n" + bytes(
        150_000
    )
    good = b"POST /v1/models/tiny/detect HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PICTURE)
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        for _ in range(5):
            for request, status in ((refused, b"404"), (good + PICTURE, b"200")):
                connection.sendall(request)
                head, _, rest = connection.recv(65536).partition(b"\r\n\r\n")
                assert head.split(b" ", 2)[1] == status
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(rest) < length:
                    rest += connection.recv(65536)
    assert nothing_is_held(served)
