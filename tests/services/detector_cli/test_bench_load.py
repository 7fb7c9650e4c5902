"""The load generator, the bare loop and the processes that they run in."""

import asyncio
import sys
import time
from itertools import repeat
from pathlib import Path

import httptools
import psutil
import pytest

from services.detector.cli.bench.bare_loop import detect, open_session, run_threads
from services.detector.cli.bench.detector_process import DetectorNotReady, start_detector
from services.detector.cli.bench.load import read_answer, request_bytes, send_all
from services.detector.cli.bench.machine import OtherLoad
from services.detector.cli.bench.peer import PeerFailed, cpu_seconds, start_peer
from services.detector.cli.bench.pictures import generated_pictures, read_pictures
from shared.repository.repository import ModelRepository
from shared.vision.decode import decode_image
from shared.vision.drawing import encode_jpeg
from tests.services.detector_cli.videos import painted


class Parsed:
    """What an HTTP parser that is not ours reads from a request."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body, self.url, self.complete = b"", b"", False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def test_a_request_is_well_formed_http():
    parsed = Parsed()
    parser = httptools.HttpRequestParser(parsed)
    parser.feed_data(request_bytes("127.0.0.1", 8100, "/v1/models/person/detect", b"\xff\xd8\r\n\r\n\x00"))
    assert parser.get_method() == b"POST"
    assert parsed.complete
    assert parsed.url == b"/v1/models/person/detect"
    assert parsed.body == b"\xff\xd8\r\n\r\n\x00"
    assert parsed.headers[b"host"] == b"127.0.0.1:8100"


@pytest.mark.parametrize("pieces", [1, 7])
def test_an_answer_is_read_however_it_is_cut(pieces: int):
    answer = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 5\r\nx: y\r\n\r\nhello"

    async def read() -> tuple[int, bytes]:
        reader = asyncio.StreamReader()
        for start in range(0, len(answer), pieces):
            reader.feed_data(answer[start : start + pieces])
        reader.feed_eof()
        return await read_answer(reader)

    assert asyncio.run(read()) == (429, b"hello")


def test_an_answer_without_a_length_is_an_error():
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await read_answer(reader)

    with pytest.raises(ValueError, match="Content-Length"):
        asyncio.run(read())


def test_the_load_is_closed_every_request_answered_and_never_more_than_the_concurrency_at_once():
    delay_s, at_once, most, answered = 0.02, 0, 0, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal at_once, most, answered
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(3)
            except asyncio.IncompleteReadError:
                writer.close()
                return
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(delay_s)
            at_once -= 1
            answered += 1
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def measure() -> dict:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        request = request_bytes("127.0.0.1", port, "/", b"abc")
        try:
            return await send_all("127.0.0.1", port, iter(list(repeat(request, 24))), concurrency=6)
        finally:
            server.close()

    answer = asyncio.run(measure())
    assert (most, answered) == (6, 24)
    assert answer["statuses"] == {"200": 24}
    assert len(answer["latencies_ms"]) == 24
    assert min(answer["latencies_ms"]) >= delay_s * 1000
    assert answer["wall_s"] >= 4 * delay_s  # 24 requests, 6 at a time


def test_the_bare_loop_finds_what_is_in_the_picture(repository: ModelRepository):
    session = open_session(repository.path("tiny", 1) / "model.onnx", intra_op=1)
    manifest = repository.manifest("tiny", 1)
    # At quality 100 JPEG keeps the rectangle's edges sharp enough to be found to a pixel or two.
    found = detect(session, manifest, encode_jpeg(painted((8, 16, 40, 40)), 100))
    assert len(found) == 1
    assert found.boxes[0].tolist() == pytest.approx([8, 16, 40, 40], abs=2)
    assert manifest.labels[found.labels[0]] == "red"


def test_the_bare_loop_runs_every_picture_once(repository: ModelRepository):
    session = open_session(repository.path("tiny", 1) / "model.onnx", intra_op=1)
    picture = encode_jpeg(painted((8, 16, 40, 40)), 90)
    answer = run_threads(session, repository.manifest("tiny", 1), [picture], threads=3, count=10)
    assert len(answer["latencies_ms"]) == 10


def test_an_error_in_a_thread_of_the_bare_loop_is_raised(repository: ModelRepository):
    session = open_session(repository.path("tiny", 1) / "model.onnx", intra_op=1)
    with pytest.raises(ValueError, match="picture"):
        run_threads(session, repository.manifest("tiny", 1), [b"no picture at all"], threads=2, count=4)


def test_generated_pictures_are_the_same_on_every_call():
    with generated_pictures() as folder:
        first = read_pictures(folder)
    with generated_pictures() as folder:
        assert read_pictures(folder) == first
    assert decode_image(first[0]).shape == (480, 640, 3)


def test_a_folder_without_jpeg_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no JPEG"):
        read_pictures(tmp_path)


def test_a_peer_that_fails_says_what_it_printed(tmp_path: Path):
    with (
        start_peer("services.detector.cli.bench.load", "127.0.0.1", "9", "/", str(tmp_path)) as peer,
        pytest.raises(PeerFailed, match="no JPEG picture"),
    ):
        peer.ask(20.0, concurrency=1, count=1)


def test_cpu_seconds_count_the_work_of_a_process_and_not_its_sleep():
    script = (
        "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass\ntime.sleep(30)"
    )
    process = psutil.Popen([sys.executable, "-c", script])
    try:
        deadline = time.monotonic() + 20
        while cpu_seconds(process.pid) < 0.45 and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.5)
        # The kernel counts user and system time in ticks of 10 ms each; the interpreter's start comes on top.
        assert 0.45 <= cpu_seconds(process.pid) < 0.8
    finally:
        process.kill()
        process.wait()


def test_a_detector_that_cannot_start_says_why(repository: ModelRepository):
    with (
        pytest.raises(DetectorNotReady, match="intra_op_threads"),
        start_detector(repository.root, {"SIGHTLINE_DETECTOR_INTRA_OP_THREADS": "0"}),
    ):
        pass


def test_the_load_of_others_leaves_out_the_named_processes():
    def burn() -> psutil.Popen:
        return psutil.Popen([sys.executable, "-c", "while True: pass"])

    ours, theirs = burn(), burn()
    try:
        without, with_it = OtherLoad(ours.pid), OtherLoad(ours.pid, theirs.pid)
        before = cpu_seconds(theirs.pid)
        started = time.perf_counter()
        time.sleep(1.5)
        share = without.share() - with_it.share()
        used = (cpu_seconds(theirs.pid) - before) / (time.perf_counter() - started) / psutil.cpu_count()
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()
    assert used > 0
    assert share == pytest.approx(used, abs=0.05)
