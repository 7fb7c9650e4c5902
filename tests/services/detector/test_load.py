"""More requests than there is room or time for, and clients that do not wait."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from shared.repository import ModelRepository
from tests.fixtures.tiny_detection_model import paint, tiny_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Gate, Served, gated, serving, until

PICTURE = encode(two_rectangles())


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    with gated(monkeypatch) as gate:
        yield gate


def together(count: int, call: Callable[[int], httpx.Response]) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


@contextlib.contextmanager
def one_computing(served: Served, gate: Gate) -> Iterator[None]:
    """Keep the only instance busy; its picture is answered at the end."""
    with ThreadPoolExecutor(1) as pool:
        gate.close()
        first = pool.submit(served.detect, PICTURE)
        until(lambda: served.metric("sightline_detector_image_bytes_count") == 1)
        until(lambda: served.metric("sightline_detector_queue_depth") == 0)
        try:
            yield
        finally:
            gate.open()
        assert first.result().status_code == 200


def test_a_full_queue_answers_429_with_retry_after_and_the_rest_is_served(
    repository: ModelRepository, gate: Gate
) -> None:
    with serving(repository.root, instances=1, queue_size=2) as served, ThreadPoolExecutor(2) as pool:
        with one_computing(served, gate):
            queued = [pool.submit(served.detect, PICTURE) for _ in range(2)]
            until(lambda: served.metric("sightline_detector_queue_depth") == 2)
            for refused in together(5, lambda _: served.detect(PICTURE)):
                assert refused.status_code == 429
                assert int(refused.headers["retry-after"]) >= 1
                assert refused.json()["type"] == "urn:sightline:problem:queue_full"
        assert [answer.result().status_code for answer in queued] == [200, 200]
        assert served.metric("sightline_detector_requests_total", outcome="queue_full") == 5
        assert served.metric("sightline_detector_requests_total", outcome="ok") == 3


def test_a_batch_that_does_not_fit_is_refused_as_a_whole_unless_nothing_waits(
    repository: ModelRepository, gate: Gate
) -> None:
    files = [("images", PICTURE)] * 3
    batch = "/v1/models/tiny/detect/batch"
    with serving(repository.root, instances=1, queue_size=2) as served, ThreadPoolExecutor(1) as pool:
        with one_computing(served, gate):
            queued = pool.submit(served.detect, PICTURE)
            until(lambda: served.metric("sightline_detector_queue_depth") == 1)
            assert served.client.post(batch, files=files).status_code == 429
        assert queued.result().status_code == 200
        assert served.metric("sightline_detector_compute_seconds_count") == 2
        assert len(served.client.post(batch, files=files).json()["results"]) == 3


def test_a_picture_whose_turn_does_not_come_in_time_gets_504_and_is_never_computed(
    repository: ModelRepository, gate: Gate
) -> None:
    with serving(repository.root, instances=1, deadline_s=0.1) as served:
        with one_computing(served, gate):
            for late in together(3, lambda _: served.detect(PICTURE)):
                assert late.status_code == 504
                assert late.json()["type"] == "urn:sightline:problem:deadline_exceeded"
        assert served.metric("sightline_detector_dropped_total", reason="deadline") == 3
        assert served.metric("sightline_detector_compute_seconds_count") == 1
        assert served.metric("sightline_detector_queue_depth") == 0


def test_a_model_that_takes_too_long_gets_504(repository: ModelRepository, gate: Gate) -> None:
    with serving(repository.root, instances=1, deadline_s=0.1, compute_timeout_s=0.01) as served:
        gate.close()
        response = served.detect(PICTURE)
        gate.open()
        assert response.status_code == 504
        assert response.json()["type"] == "urn:sightline:problem:compute_timeout"


def send(served: Served) -> socket.socket:
    """Send a whole request and return the connection it went over."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    head = f"POST /v1/models/tiny/detect HTTP/1.1\r\nHost: x\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
    connection.sendall(head.encode() + PICTURE)
    return connection


def test_a_request_whose_client_has_gone_is_dropped_before_compute(
    repository: ModelRepository, gate: Gate
) -> None:
    with serving(repository.root, instances=1) as served:
        with one_computing(served, gate):
            connections = [send(served) for _ in range(3)]
            until(lambda: served.metric("sightline_detector_queue_depth") == 3)
            for connection in connections:
                connection.close()
            until(lambda: served.metric("sightline_detector_queue_depth") == 0)
        assert served.metric("sightline_detector_dropped_total", reason="client_gone") == 3
        assert served.metric("sightline_detector_requests_total", outcome="client_gone") == 3
        assert served.detect(PICTURE).status_code == 200
        assert served.metric("sightline_detector_compute_seconds_count") == 2  # the first and this one


def test_bodies_on_their_way_in_are_bounded_together(repository: ModelRepository) -> None:
    with serving(repository.root, max_held_bytes=1000, max_body_bytes=900) as served:
        host, port = served.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as arriving:
            arriving.sendall(
                b"POST /v1/models/tiny/detect HTTP/1.1\r\nHost: x\r\nContent-Length: 800\r\n\r\nfirst bytes"
            )
            until(lambda: served.metric("sightline_http_requests_in_flight") == 2)  # it and the scrape
            refused = until(lambda: full(served.detect(PICTURE)))
            assert int(refused.headers["retry-after"]) >= 1
            undeclared = served.client.post("/v1/models/tiny/detect", content=iter([PICTURE]))
            assert undeclared.status_code == 429
        until(lambda: served.detect(PICTURE).status_code == 200)


def full(response: httpx.Response) -> httpx.Response | None:
    return response if response.status_code == 429 else None


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[Served]:
    repository = tiny_repository(tmp_path)
    with serving(repository.root, max_batch=8, max_delay_ms=5) as served:
        yield served


def test_64_mixed_requests_at_once_equal_their_solo_answers(busy: Served) -> None:
    random = np.random.default_rng(0)
    requests = []
    for _ in range(64):
        height, width = random.integers(40, 300, 2).tolist()
        picture = np.full((height, width, 3), 20, np.uint8)
        for _ in range(3):
            x, y = random.integers(0, width - 20), random.integers(0, height - 20)
            paint(picture, (x, y, x + 15, y + 15), int(random.integers(3)), int(random.integers(150, 256)))
        requests.append((encode(picture), {"score_threshold": round(float(random.uniform(0, 0.9)), 3)}))

    def ask(number: int) -> httpx.Response:
        data, thresholds = requests[number]
        return busy.detect(data, **thresholds)

    alone = [ask(number).json()["detections"] for number in range(64)]
    at_once = [response.json()["detections"] for response in together(32, ask)] + [
        response.json()["detections"] for response in together(32, lambda number: ask(number + 32))
    ]
    assert busy.metric("sightline_detector_batch_size_count") < 128  # some did share a run
    assert sum(map(len, alone)) > 64
    for one, other in zip(alone, at_once, strict=True):
        assert [found["label"] for found in one] == [found["label"] for found in other]
        for key in ("x1", "y1", "x2", "y2"):
            assert [f["box"][key] for f in one] == pytest.approx([f["box"][key] for f in other], abs=1e-4)
        assert [f["score"] for f in one] == pytest.approx([f["score"] for f in other], abs=1e-4)


def test_bad_pictures_among_good_ones_in_one_batch_fail_alone(busy: Served) -> None:
    responses = together(24, lambda number: busy.detect(PICTURE if number % 3 else b"no picture"))
    for number, response in enumerate(responses):
        assert response.status_code == (200 if number % 3 else 415)


def test_metrics_tell_pictures_apart_by_outcome(busy: Served) -> None:
    busy.detect(PICTURE)
    busy.detect(b"no picture")
    labels = {"model": "tiny", "version": "1"}
    assert busy.metric("sightline_detector_requests_total", outcome="ok", **labels) == 1
    assert busy.metric("sightline_detector_requests_total", outcome="not_an_image", **labels) == 1
    for stage in ("queue", "preprocess", "compute", "postprocess"):
        assert busy.metric(f"sightline_detector_{stage}_seconds_count", **labels) == 1
    assert busy.metric("sightline_detector_image_bytes_count", **labels) == 2
    assert busy.metric("sightline_detector_image_bytes_sum", **labels) == len(PICTURE) + len(b"no picture")
    assert busy.metric("sightline_detector_batches_total", reason="delay", **labels) == 1
    assert threading.active_count() < 64
