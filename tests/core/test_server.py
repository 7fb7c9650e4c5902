"""The server as a process of its own, since signals and sockets are what it is about."""

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

PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
import importlib.util
spec = importlib.util.spec_from_file_location("sample", {file!r})
sample = importlib.util.module_from_spec(spec); spec.loader.exec_module(sample)
from shared.core.server import serve
from shared.core.settings import CommonSettings
serve(sample.make_app, host={host!r}, port={port}, settings=CommonSettings(), drain_s=5)
"""


def start(port: int, host: str = "127.0.0.1") -> subprocess.Popen[bytes]:
    file = Path(__file__).parent / "conftest.py"
    program = PROGRAM.format(folder=str(file.parent), file=str(file), host=host, port=port)
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    process = start(port)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            httpx.get(f"http://127.0.0.1:{port}/livez")
            break
        except httpx.TransportError:
            time.sleep(0.05)
    yield process, port
    process.kill()
    process.wait()


def test_on_sigterm_the_request_in_flight_is_answered_and_the_exit_status_is_zero(
    server: tuple[subprocess.Popen[bytes], int],
) -> None:
    process, port = server
    answers: list[httpx.Response] = []
    url = f"http://127.0.0.1:{port}"
    caller = threading.Thread(
        target=lambda: answers.append(httpx.get(f"{url}/v1/slow?seconds=2", timeout=10))
    )
    caller.start()
    deadline = time.monotonic() + 10
    while 'requests_in_flight{service="sample"} 2.0' not in httpx.get(f"{url}/metrics").text:  # and this one
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGTERM)
    caller.join()
    assert answers[0].json() == {"done": True}
    assert process.wait(10) == 0


def test_a_declared_length_beyond_the_limit_is_refused_without_waiting_for_the_body(
    server: tuple[subprocess.Popen[bytes], int],
) -> None:
    answer = exchange(server[1], b"Content-Length: 999999999\r\n\r\n", seconds=0.9)
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_body_shorter_than_declared_gives_408_and_the_server_goes_on(
    server: tuple[subprocess.Popen[bytes], int],
) -> None:
    answer = exchange(server[1], b"Content-Length: 500\r\n\r\nonly this", seconds=5)
    assert answer.startswith(b"HTTP/1.1 408")
    assert httpx.get(f"http://127.0.0.1:{server[1]}/livez").is_success


def test_bytes_beyond_the_declared_length_are_refused_and_the_server_goes_on(
    server: tuple[subprocess.Popen[bytes], int],
) -> None:
    answer = exchange(server[1], b"Content-Length: 3\r\n\r\nabcdefgh", seconds=2)
    assert answer.startswith(b"HTTP/1.1 400")  # they are read as a next request, and are none
    assert httpx.get(f"http://127.0.0.1:{server[1]}/livez").is_success


def exchange(port: int, rest: bytes, *, seconds: float) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        connection.sendall(b"POST /v1/bytes/x HTTP/1.1\r\nHost: x\r\n" + rest)
        received = b""
        while b"\r\n\r\n" not in received or not received.rstrip().endswith((b"}", b".")):
            if not (chunk := connection.recv(65536)):
                break
            received += chunk
        return received


def test_a_taken_address_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = start(taken.getsockname()[1])
        _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert b"cannot listen on 127.0.0.1" in stderr
    assert b"Traceback" not in stderr


def test_listening_beyond_loopback_without_a_key_is_refused() -> None:
    process = start(free_port(), host="0.0.0.0")
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 2
    assert b"SIGHTLINE_API_KEYS" in stderr
