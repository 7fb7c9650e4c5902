"""The detector as a process of its own: start, raw connections, signals."""

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fixtures.tiny_detection_model import TinyModel, tiny_repository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import ROOT, Served, answers, serving_process, until

PICTURE = encode(two_rectangles())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_serving_a_picture_loads_no_torch(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    (tmp_path / "picture.png").write_bytes(PICTURE)
    program = f"""
import sys
from pathlib import Path
from tests.services.detector.serving import serving
with serving(Path({str(repository.root)!r})) as served:
    answer = served.detect(Path({str(tmp_path / "picture.png")!r}).read_bytes())
    assert len(answer.json()["detections"]) == 2, answer.text
heavy = {{"torch", "lightning", "torchvision", "scipy", "matplotlib", "onnx", "sqlalchemy", "PIL"}}
sys.exit(", ".join(heavy & {{name.partition(".")[0] for name in sys.modules}}) or 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def process(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[subprocess.Popen[bytes], Served]]:
    repository = tiny_repository(tmp_path_factory.mktemp("process"))
    limits = {"SIGHTLINE_DETECTOR_MAX_BODY_BYTES": "100000", "SIGHTLINE_DETECTOR_BODY_TIMEOUT_S": "0.5"}
    with serving_process(repository.root, free_port(), **limits) as started:
        yield started


def exchange(served: Served, request: bytes, *, pause_s: float = 0.0) -> bytes:
    """Send raw bytes and return the first answer's head, or what came before the connection closed."""
    host, port = served.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        with contextlib.suppress(ConnectionError):  # a refusal may close while the body is still sent
            connection.sendall(request)
        time.sleep(pause_s)
        received = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
                received += chunk
        return received


def post(length: str, body: bytes) -> bytes:
    head = f"POST /v1/models/tiny/detect HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(post("Content-Length: 100001", bytes(100_001)), b"413", id="over the limit"),
        pytest.param(post("Content-Length: 99999999999", b""), b"413", id="says it is over the limit"),
        pytest.param(
            post("Transfer-Encoding: chunked", b"186a1\r\n" + bytes(100_001) + b"\r\n0\r\n\r\n"),
            b"413",
            id="over the limit without saying so",
        ),
        pytest.param(post("Content-Length: 5000", PICTURE[:100]), b"408", id="says more than it sends"),
        pytest.param(post("Content-Length: 20", PICTURE), b"400", id="says less than it sends"),
        pytest.param(post("Content-Length: -1", b""), b"400", id="negative"),
        pytest.param(post("Content-Length: 1e3", b""), b"400", id="no number"),
        pytest.param(post("X-Nothing: 1", b""), b"400", id="no body at all"),
        pytest.param(b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n", b"400", id="no HTTP"),
    ],
)
def test_a_body_that_lies_about_its_length_is_refused_and_the_next_request_is_answered(
    process: tuple[subprocess.Popen[bytes], Served], request_bytes: bytes, status: bytes
) -> None:
    _, served = process
    assert exchange(served, request_bytes).split(b" ")[1:2] == [status]
    assert served.detect(PICTURE).status_code == 200


def test_connections_cut_in_the_middle_of_a_body_leave_nothing_behind(
    process: tuple[subprocess.Popen[bytes], Served],
) -> None:
    _, served = process
    host, port = served.url.removeprefix("http://").split(":")
    for _ in range(20):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(post(f"Content-Length: {len(PICTURE)}", PICTURE[:50]))
    until(lambda: served.metric("sightline_http_requests_in_flight") == 1)  # the scrape itself
    assert served.detect(PICTURE).status_code == 200


def test_on_sigterm_under_load_readiness_flips_what_was_taken_is_answered_and_the_status_is_zero(
    tmp_path: Path,
) -> None:
    repository = tiny_repository(tmp_path, model=TinyModel(matmuls=10))
    environment = {"SIGHTLINE_DETECTOR_LAME_DUCK_S": "0.5", "SIGHTLINE_DETECTOR_DRAIN_S": "10"}
    with serving_process(repository.root, free_port(), **environment) as (process, served):
        statuses: list[int] = []
        broken: list[Exception] = []

        def load() -> None:
            with httpx.Client(base_url=served.url, timeout=30, trust_env=False) as client:
                while True:
                    try:
                        response = client.post("/v1/models/tiny/detect", content=PICTURE)
                    except httpx.ConnectError:  # the port is closed: the end, and no request was taken
                        return
                    except httpx.TransportError as error:
                        broken.append(error)
                        return
                    statuses.append(response.status_code)

        threads = [threading.Thread(target=load) for _ in range(6)]
        for thread in threads:
            thread.start()
        until(lambda: len(statuses) >= 6)
        process.send_signal(signal.SIGTERM)
        until(lambda: not answers(served), seconds=0.5)
        assert "draining" in served.ready()[1]["reasons"][0]
        signalled = time.monotonic()
        for thread in threads:
            thread.join()
        assert process.wait(15) == 0
        assert time.monotonic() - signalled < 10
        assert set(statuses) == {200}
        # A request may meet the connection at the moment it is closed; none that was taken is lost.
        assert all(isinstance(error, httpx.RemoteProtocolError | httpx.ReadError) for error in broken)
        assert len(broken) <= len(threads)
