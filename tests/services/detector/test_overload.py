"""Four times more than can be answered: what is answered, what a refusal costs, and what stays behind."""

import contextlib
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from services.detector.dataplane.session import Session
from shared.repository import ModelRepository
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Served, gated, serving, until

PICTURE = encode(two_rectangles())
LARGE = bytes(1_000_000)
RUN_S = 0.02  # of the model; it sleeps, so that the cores are free for whoever else tests


def connect(served: Served) -> socket.socket:
    host, port = served.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def read_answer(connection: socket.socket) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of the next answer, and leave nothing of it unread."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65536)
    return int(status.split()[1]), headers


@pytest.fixture
def full(repository: ModelRepository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """A detector whose one place in the queue is taken while its one thread is held."""
    with (
        gated(monkeypatch) as gate,
        serving(repository.root, instances=1, queue_size=1) as served,
        contextlib.ExitStack() as stack,
    ):
        gate.close()
        threads = [threading.Thread(target=served.detect, args=(PICTURE,)) for _ in range(2)]
        for depth, thread in enumerate(threads):
            thread.start()
            until(lambda: served.metric("sightline_detector_image_bytes_count") == depth + 1)  # noqa: B023
            until(lambda: served.metric("sightline_detector_queue_depth") == depth)  # noqa: B023
        for thread in threads:
            stack.callback(thread.join)
        stack.callback(gate.open)
        yield served


def test_a_refusal_comes_before_the_body_and_leaves_the_connection_usable(full: Served) -> None:
    head = f"POST /v1/models/tiny/detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LARGE)}\r\n\r\n"
    with connect(full) as connection:
        for _ in range(3):
            connection.sendall(head.encode())
            status, headers = read_answer(connection)  # not a byte of the body was sent
            assert status == 429
            assert int(headers["retry-after"]) >= 1
            assert headers.get("connection", "keep-alive") == "keep-alive"
            connection.sendall(LARGE)
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(connection)[0] == 200


def test_refusals_hold_no_memory(full: Served) -> None:
    def refuse(count: int) -> None:
        for _ in range(count):
            assert full.client.post("/v1/models/tiny/detect", content=LARGE).status_code == 429

    refuse(20)
    before = psutil.Process().memory_info().rss
    refuse(100)
    assert psutil.Process().memory_info().rss - before < 20 * len(LARGE)


def slow(session: Session, inputs: object, run: object = Session.run) -> object:
    time.sleep(RUN_S)
    return run(session, inputs)  # type: ignore[operator]


def test_under_four_times_the_load_the_model_stays_busy_and_the_rest_is_refused_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "run", slow)
    repository = tiny_repository(tmp_path)
    answers: list[tuple[int, float]] = []  # status and seconds
    stop = threading.Event()

    def offer() -> None:
        with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
            while not stop.is_set():
                began = time.monotonic()
                status = client.post("/v1/models/tiny/detect", content=PICTURE).status_code
                took = time.monotonic() - began
                answers.append((status, took))
                stop.wait(max(0.0, PERIOD_S - took))

    clients, seconds = 12, 2.5
    PERIOD_S = clients * RUN_S / 4
    with serving(repository.root, instances=1, queue_size=4) as served:
        threads = [threading.Thread(target=offer) for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        stop.set()
        for thread in threads:
            thread.join()
        ended = time.monotonic()
        until(lambda: served.metric("sightline_detector_queue_depth") == 0)
        assert served.detect(PICTURE).status_code == 200
        assert time.monotonic() - ended < 2
    answered = [took for status, took in answers if status == 200]
    refused = [took for status, took in answers if status == 429]
    assert len(answered) + len(refused) == len(answers)
    assert len(refused) > len(answered)
    # Loose bounds: how close it comes, and in how many milliseconds, is for a benchmark on a quiet machine.
    assert len(answered) > 0.6 * seconds / RUN_S
    assert statistics.median(refused) < 0.05
    assert max(answered) < 1.0
