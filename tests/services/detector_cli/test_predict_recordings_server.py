"""`sightline predict --server` on recordings: a stream of a real detector, and one of scripted answers."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest

from services.detector.cli.bench.server_process import start_detector
from services.detector.cli.streams import GROUP_EVENTS
from shared.repository.repository import ModelRepository
from tests.data.events.formats import Event, write_columns
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import (
    TinyStreamModel,
    add_tiny_stream_version,
    tiny_stream_manifest,
    tiny_stream_repository,
)
from tests.services.detector_cli.conftest import Run

SENSOR = (32, 48)
EVENTS = [Event(10_000, 5, 7, 1), Event(240_000, 40, 20, 0)]


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    """Version 2 of `fading`, named by the alias `trial`, gives three quarters of every score."""
    repository = tiny_stream_repository(tmp_path_factory.mktemp("streams"))
    add_tiny_stream_version(repository, model=TinyStreamModel(score_scale=0.75), promote=False)
    repository.set_alias("fading", "trial", 2)
    half = TinyStreamModel(sensor_height=64, sensor_width=96, halved=True)
    add_tiny_stream_version(repository, "half", half)
    add_tiny_version(repository, "tiny")
    return repository


@pytest.fixture(scope="module")
def server(streams: ModelRepository) -> Iterator[str]:
    settings = {"SIGHTLINE_DETECTOR_ALIASES": "live,trial"}
    with start_detector(streams.root, settings) as detector:
        yield f"http://127.0.0.1:{detector.port}"


def open_streams(server: str) -> list[dict]:
    listed: list[dict] = httpx.get(f"{server}/v1/streams").json()["streams"]
    return listed


def busy_recording(path: Path, count: int = 3000) -> Path:
    """Events all over the sensor and time, with silences, more than fit into one chunk of windows."""
    random = np.random.default_rng(0)
    t = np.sort(random.integers(70_000, 2_000_000, count))
    t[count // 2 :] += 1_000_000
    rows = zip(t, random.integers(0, 48, count), random.integers(0, 32, count), t % 2, strict=True)
    return write_columns(path, [Event(*map(int, row)) for row in rows], SENSOR)


@pytest.mark.parametrize("model", ["fading", "fading:trial"])
def test_a_server_gives_the_same_documents_as_the_repository(
    run_predict: Run, streams: ModelRepository, server: str, tmp_path: Path, model: str
):
    busy_recording(tmp_path / "a.h5")
    write_columns(tmp_path / "b.h5", EVENTS, SENSOR)
    for out, origin in (("here", ("--repository", streams.root)), ("there", ("--server", server))):
        options = ("--score-threshold", 0.15, "-o", out, "--format", "json")
        result = run_predict(".", "-m", model, *origin, *options)
        assert result.exit_code == 0, result.stderr
    for name in ("a", "b"):
        here, there = ((tmp_path / out / f"{name}.json").read_text() for out in ("here", "there"))
        assert here == there
    assert len(json.loads((tmp_path / "there/a.json").read_text())["windows"]) == 59  # 50 ms to 3 s
    assert open_streams(server) == []


def test_boxes_of_a_halved_model_come_in_pixels_of_the_sensor(run_predict: Run, server: str, tmp_path: Path):
    write_columns(tmp_path / "a.h5", [Event(0, 61, 7, 1)], (64, 96))
    result = run_predict("a.h5", "-m", "half", "--server", server, "-o", "out")
    assert result.exit_code == 0, result.stderr
    (window,) = json.loads((tmp_path / "out/a.json").read_text())["windows"]
    assert [one["box"] for one in window["detections"]] == [{"x1": 60.0, "y1": 6.0, "x2": 62.0, "y2": 8.0}]


def test_a_window_of_more_events_than_a_chunk_takes_is_sent_in_pieces(
    run_predict: Run, streams: ModelRepository, server: str, tmp_path: Path
):
    count = GROUP_EVENTS + 1000
    t = np.sort(np.random.default_rng(0).integers(0, 50_001, count))
    columns = {"t": t, "x": t % 48, "y": t % 32, "p": t % 2}
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR, **columns)
    for out, origin in (("here", ("--repository", streams.root)), ("there", ("--server", server))):
        result = run_predict("a.h5", "-m", "fading", *origin, "-o", out, "--format", "json")
        assert result.exit_code == 0, result.stderr
    assert (tmp_path / "here/a.json").read_text() == (tmp_path / "there/a.json").read_text()


def test_a_recording_of_another_sensor_and_a_wrong_model_are_told(
    run_predict: Run, server: str, tmp_path: Path
):
    write_columns(tmp_path / "a.h5", EVENTS, (240, 304))
    other = run_predict("a.h5", "-m", "fading", "--server", server)
    assert (other.exit_code, "fading is for 32 x 48" in other.stderr) == (1, True)
    wrong = run_predict("a.h5", "-m", "tiny", "--server", server)
    assert (wrong.exit_code, "tiny takes pictures and videos" in wrong.stderr) == (1, True)
    assert open_streams(server) == []


# A server of scripted answers: what it answers to each chunk is up to the test.

Answer = tuple[int, dict]


@contextmanager
def scripted(chunk: Callable[[int, int], Answer | None]) -> Iterator[tuple[str, list[str]]]:
    """Serve one stream; `chunk(nth call, sequence)` answers chunks, None hangs up. Notes every request."""
    seen: list[str] = []
    manifest = tiny_stream_manifest().model_dump(mode="json")
    view = {"task": "stream_detection", "version": 1, "loaded": [1], "aliases": {"live": 1}}
    opened = {"id": "0" * 32, "version": 1, "window_us": 50_000, "sensor": {"height": 32, "width": 48}}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, manifest if self.path.endswith("/manifest") else view)

        def do_DELETE(self) -> None:
            seen.append("closed")
            self._send(204, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            url = urlsplit(self.path)
            if not url.path.endswith("/chunks"):
                self._send(201, opened)
                return
            sequence = int(parse_qs(url.query)["sequence"][0])
            answer = chunk(len(seen), sequence)
            seen.append(f"chunk {sequence}")
            if answer is None:
                self.close_connection = True
            else:
                self._send(*answer)

        def _send(self, status: int, document: dict) -> None:
            body = b"" if status == 204 else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def empty_windows(count: int, first: int = 0) -> Answer:
    spans = [(50_000 * index, 50_000 * (index + 1)) for index in range(first, first + count)]
    return 200, {"windows": [{"start_us": start, "end_us": end, "detections": []} for start, end in spans]}


def test_a_chunk_whose_answer_was_lost_is_sent_again_under_its_number(run_predict: Run, tmp_path: Path):
    # 12 windows: 8 in the first chunk, 4 in the second, whose answer is lost once and refused once.
    write_columns(tmp_path / "a.h5", [Event(0, 1, 1, 1), Event(600_000, 1, 1, 1)], SENSOR)
    busy: Answer = (503, {"detail": "busy"})
    answers = [empty_windows(8), None, busy, empty_windows(4, first=8)]
    with scripted(lambda nth, sequence: answers[nth]) as (address, seen):
        result = run_predict("a.h5", "-m", "fading", "--server", address, "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert seen == ["chunk 0", "chunk 1", "chunk 1", "chunk 1", "closed"]
    assert len(json.loads((tmp_path / "out/a.json").read_text())["windows"]) == 12


def test_a_stream_that_is_gone_ends_its_recording_and_the_others_go_on(run_predict: Run, tmp_path: Path):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    write_columns(tmp_path / "b.h5", EVENTS, SENSOR)
    gone: Answer = (410, {"detail": "stream 0 has ended: its model was unloaded"})
    answers = {0: gone, 2: empty_windows(5)}
    with scripted(lambda nth, sequence: answers[nth]) as (address, seen):
        result = run_predict("a.h5", "b.h5", "-m", "fading", "--server", address, "-o", "out", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["problems"] == [{"source": "a.h5", "reason": "stream 0 has ended: its model was unloaded"}]
    assert [one["images"] for one in summary["results"]] == [5]
    assert seen == ["chunk 0", "closed", "chunk 0", "closed"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.json", "b.mp4", "summary.json"]


def test_answers_for_other_windows_are_not_taken_for_those_asked(run_predict: Run, tmp_path: Path):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    with scripted(lambda nth, sequence: empty_windows(5, first=1)) as (address, _):
        result = run_predict("a.h5", "-m", "fading", "--server", address)
    assert result.exit_code == 1
    assert "the server answered the window from 50000 to 100000 us" in result.stderr


def test_a_server_that_stays_away_is_exit_code_4_and_leaves_no_half_file(run_predict: Run, tmp_path: Path):
    write_columns(tmp_path / "a.h5", EVENTS, SENSOR)
    with scripted(lambda nth, sequence: None) as (address, seen):
        options = ("--deadline", 0.5, "-o", "out")
        result = run_predict("a.h5", "-m", "fading", "--server", address, *options)
    assert result.exit_code == 4
    assert "did not take the request for 0.5 s" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []
    assert seen[-1] == "closed"
