"""How a busy, failing or vanishing server is met; the server is a script of answers."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from services.detector.cli.detections import FoundDetections, RemoteDetections
from services.detector.cli.predictors import Asked, Picture, PictureRefused
from services.detector.cli.remote import PatientClient, RemotePredictor, ServerUnavailable
from tests.services.detector_cli.conftest import Run
from tests.services.detector_cli.videos import painted, write_picture

ANSWER = {
    "model": "tiny",
    "version": 3,
    "image": {"width": 20, "height": 10},
    "detections": [
        {"box": {"x1": 1.5, "y1": 2, "x2": 3, "y2": 4}, "score": 0.5, "label": "b", "label_id": 1}
    ],
}
Answers = list[tuple[int, dict[str, str], dict]]


@contextmanager
def scripted_server(answers: Answers) -> Iterator[tuple[str, list[float]]]:
    """Give out `answers` (status, headers, document), the last one for ever; note when each was asked for."""
    asked_at: list[float] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, document = answers[min(len(asked_at), len(answers) - 1)]
            asked_at.append(time.monotonic())
            self._send(status, headers, document)

        def do_GET(self) -> None:
            self._send(200, {}, {"name": "tiny", "task": "detection", "loaded": [3], "aliases": {"live": 3}})

        def _send(self, status: int, headers: dict[str, str], document: dict) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked_at
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def predictor(address: str, deadline_s: float) -> RemotePredictor:
    client = PatientClient(httpx.Client(base_url=address, timeout=5), deadline_s)
    return RemotePredictor(client, "tiny", None, RemoteDetections(Asked()), concurrency=1)


def test_an_answer_becomes_a_prediction():
    with scripted_server([(200, {}, ANSWER)]) as (address, _):
        (prediction,) = predictor(address, 5).predict([Picture(data=b"x")])
    assert isinstance(prediction, FoundDetections)
    assert prediction.detections.boxes.tolist() == [[1.5, 2, 3, 4]]
    assert prediction.labels[1] == "b"
    assert (prediction.width, prediction.height, prediction.version) == (20, 10, 3)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_after_its_retry_after(status: int):
    busy = (status, {"Retry-After": "1"}, {"detail": "queue full"})
    with scripted_server([busy, (200, {}, ANSWER)]) as (address, asked_at):
        (prediction,) = predictor(address, 10).predict([Picture(data=b"x")])
    assert isinstance(prediction, FoundDetections)
    assert len(asked_at) == 2
    assert asked_at[1] - asked_at[0] >= 1.0


def test_a_server_that_stays_busy_is_given_up_within_the_deadline():
    with scripted_server([(503, {}, {"detail": "loading the model"})]) as (address, asked_at):
        remote = predictor(address, 1.0)
        started = time.monotonic()
        with pytest.raises(ServerUnavailable, match="loading the model"):
            remote.predict([Picture(data=b"x")])
    assert time.monotonic() - started <= 1.5
    assert len(asked_at) > 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for():
    with scripted_server([(429, {"Retry-After": "3600"}, {"detail": "full"})]) as (address, asked_at):
        remote = predictor(address, 5.0)
        started = time.monotonic()
        with pytest.raises(ServerUnavailable):
            remote.predict([Picture(data=b"x")])
    assert time.monotonic() - started < 1.0
    assert len(asked_at) == 1


@pytest.mark.parametrize("status", [400, 413, 415, 422])
def test_a_refused_picture_is_a_result_and_is_not_sent_again(status: int):
    with scripted_server([(status, {}, {"detail": "too odd"})]) as (address, asked_at):
        (refused,) = predictor(address, 5).predict([Picture(data=b"x")])
    assert isinstance(refused, PictureRefused)
    assert str(refused) == "too odd"
    assert len(asked_at) == 1


def test_an_error_of_the_server_ends_the_run_with_its_words(run_predict: Run, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    broken = (500, {}, {"title": "The model failed", "detail": "numbers that are not finite"})
    with scripted_server([broken]) as (address, asked_at):
        result = run_predict("a.png", "-m", "tiny", "--server", address)
    assert result.exit_code == 1
    assert "numbers that are not finite" in result.stderr
    assert len(asked_at) == 1


def test_a_server_that_stays_busy_ends_the_run_with_exit_code_4(run_predict: Run, tmp_path: Path):
    write_picture(tmp_path / "a.png", painted((8, 10, 28, 40)))
    with scripted_server([(429, {"Retry-After": "1"}, {"detail": "queue full"})]) as (address, _):
        result = run_predict("a.png", "-m", "tiny", "--server", address, "--deadline", 0.5)
    assert result.exit_code == 4
    assert "queue full" in result.stderr
