"""The load generator, the bare loop and the processes that they run in."""

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import httptools
import psutil
import pytest

from services.detector.cli.bench.bare_loop import run_threads, until
from services.detector.cli.bench.load import Answer, closed_loop, open_loop, picture_request, read_answer
from services.detector.cli.bench.machine import OtherLoad
from services.detector.cli.bench.measuring import MeasuringFailed, start_measuring
from services.detector.cli.bench.model import graph_spec
from services.detector.cli.bench.peers.detection import Detector
from services.detector.cli.bench.pictures import generated_pictures, read_pictures, varied_pictures
from services.detector.cli.bench.process_tree import MARK, ProcessTree, new_mark
from services.detector.cli.bench.server_process import ServerNotReady, start_detector
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


def parsed(request: bytes) -> Parsed:
    found = Parsed()
    parser = httptools.HttpRequestParser(found)
    parser.feed_data(request)
    assert parser.get_method() == b"POST"
    assert found.complete
    return found


def test_a_request_is_well_formed_http():
    found = parsed(picture_request(8100, "/v1/models/person/detect", "picture", b"\xff\xd8\r\n\r\n\x00"))
    assert found.url == b"/v1/models/person/detect"
    assert found.body == b"\xff\xd8\r\n\r\n\x00"
    assert found.headers[b"host"] == b"127.0.0.1:8100"


def test_a_v2_request_carries_the_picture_as_a_bytes_tensor():
    found = parsed(picture_request(8100, "/v2/models/detect/infer", "v2", b"\xff\xd8 picture"))
    (tensor,) = json.loads(found.body)["inputs"]
    assert (tensor["datatype"], tensor["shape"]) == ("BYTES", [1])
    assert base64.b64decode(tensor["data"][0]) == b"\xff\xd8 picture"
    assert found.headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize(
    "body",
    [
        b"content-length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_read_however_it_is_cut(pieces: int, body: bytes):
    answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\n" + body

    async def read() -> Answer:
        reader = asyncio.StreamReader()
        for start in range(0, len(answer), pieces):
            reader.feed_data(answer[start : start + pieces])
        reader.feed_eof()
        return await read_answer(reader)

    found = asyncio.run(read())
    assert (found.status, found.body, found.headers["retry-after"]) == (429, b"hello", "1")


def test_an_answer_without_a_length_is_an_error():
    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
        await read_answer(reader)

    with pytest.raises(ValueError, match="Content-Length"):
        asyncio.run(read())


class FakeServer:
    """Answers each request after `delay_s`; every `refuse`th with 429, and counts how many are in flight."""

    def __init__(self, delay_s: float, refuse: int = 0) -> None:
        self.delay_s, self.refuse = delay_s, refuse
        self.at_once = self.most = self.answered = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(3)
            except asyncio.IncompleteReadError:
                writer.close()
                return
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(self.delay_s)
            self.at_once -= 1
            self.answered += 1
            if self.refuse and self.answered % self.refuse == 0:
                writer.write(b"HTTP/1.1 429 No\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def measured(self, loop: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Return what `loop(port, requests, *arguments)` says of this server."""

        async def measure() -> dict[str, Any]:
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            try:
                return await loop(port, repeat(picture_request(port, "/", "picture", b"abc")), *arguments)
            finally:
                server.close()

        return asyncio.run(measure())


def test_a_closed_loop_keeps_the_concurrency_in_flight_and_never_more():
    server = FakeServer(0.02)
    answer = server.measured(closed_loop, 6, 0.3)
    assert server.most == 6
    assert answer["answered"] == server.answered == sum(answer["statuses"].values())
    assert len(answer["latencies_ms"]) == server.answered - 6  # the first of each connection is left out
    assert min(answer["latencies_ms"]) >= 20
    assert answer["answered"] <= 6 * (answer["wall_s"] / 0.02 + 1)
    assert answer["failures"] == 0


def test_a_closed_loop_gives_every_connection_some_answers_however_short_the_time():
    server = FakeServer(0.1)
    assert server.measured(closed_loop, 4, 0.05)["answered"] == 8


def test_refusals_are_counted_and_no_latencies_of_answers():
    server = FakeServer(0.001, refuse=2)
    answer = server.measured(closed_loop, 1, 0.3)
    assert answer["statuses"]["429"] > 0
    assert answer["answered"] == answer["statuses"]["200"]
    assert len(answer["latencies_ms"]) <= answer["answered"]


def test_an_open_loop_offers_its_rate_whatever_is_answered():
    server = FakeServer(0.5, refuse=3)  # far slower than the offer
    answer = server.measured(open_loop, 100, 0.4, 64)
    assert len(answer["requests"]) == server.answered == 40
    assert answer["unsent"] == answer["failures"] == 0
    assert server.most > 20  # a closed loop of any usual size would have waited
    sent = sorted(each[0] for each in answer["requests"])
    assert sent[-1] == pytest.approx(0.39, abs=0.1)
    refused = [each for each in answer["requests"] if each[2] == 429]
    assert len(refused) == 13
    assert {each[3] for each in refused} == {"2"}


def test_an_open_loop_counts_what_it_could_not_send():
    answer = FakeServer(0.6).measured(open_loop, 50, 0.4, 5)
    assert (len(answer["requests"]), answer["unsent"]) == (5, 15)


@pytest.fixture
def detector(repository: ModelRepository) -> Detector:
    return Detector(graph_spec(repository.path("tiny", 1)))


def test_the_bare_loop_finds_what_is_in_the_picture(detector: Detector):
    # At quality 100 JPEG keeps the rectangle's edges sharp enough to be found to a pixel or two.
    (found,) = detector.answer(encode_jpeg(painted((8, 16, 40, 40)), 100))["detections"]
    assert list(found["box"].values()) == pytest.approx([8, 16, 40, 40], abs=2)
    assert (found["label"], found["label_id"]) == ("red", 0)


def test_the_bare_loop_runs_every_picture_once(detector: Detector):
    picture = encode_jpeg(painted((8, 16, 40, 40)), 90)
    answer = run_threads(detector, islice(repeat(picture), 10), threads=3)
    assert len(answer["latencies_ms"]) == 10


def test_the_bare_loop_ends_with_its_time(detector: Detector):
    picture = encode_jpeg(painted((8, 16, 40, 40)), 90)
    answer = run_threads(detector, until(repeat(picture), 0.2), threads=2)
    assert 0.2 <= answer["wall_s"] < 2
    assert len(answer["latencies_ms"]) > 2


def test_an_error_in_a_thread_of_the_bare_loop_is_raised(detector: Detector):
    with pytest.raises(ValueError, match="picture"):
        run_threads(detector, islice(repeat(b"no picture at all"), 4), threads=2)


def test_generated_pictures_are_the_same_on_every_call():
    with generated_pictures() as folder:
        first = read_pictures(folder)
    with generated_pictures() as folder:
        assert read_pictures(folder) == first
    assert decode_image(first[0]).shape == (480, 640, 3)


def test_a_folder_without_jpeg_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no JPEG"):
        read_pictures(tmp_path)


def test_varied_pictures_have_several_sizes():
    with generated_pictures() as folder:
        pictures = varied_pictures(folder)
    sizes = {decode_image(data).shape for data in pictures}
    assert len(pictures) == 32
    assert {(480, 640, 3), (320, 640, 3), (480, 320, 3), (240, 320, 3)} < sizes


def test_a_measuring_process_that_fails_says_what_it_printed(tmp_path: Path):
    with (
        start_measuring("services.detector.cli.bench.load", str(tmp_path)) as process,
        pytest.raises(MeasuringFailed, match="no JPEG picture"),
    ):
        process.ask(20.0, concurrency=1)


def test_a_server_that_is_not_there_is_an_error_and_not_the_end(bright_pictures: Path):
    with start_measuring("services.detector.cli.bench.load", str(bright_pictures)) as process:
        for _ in range(2):
            answer = process.ask(20.0, port=9, target="/", protocol="picture", concurrency=1, seconds=0.1)
            assert "ConnectionRefusedError" in answer["error"]


BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"


def test_the_cpu_time_of_a_tree_holds_children_that_have_ended_and_no_sleep():
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {BURN.format(seconds=0.4)!r}])\n"
        + BURN.format(seconds=0.2)
        + "print('done', flush=True)\ntime.sleep(30)"
    )
    process = psutil.Popen([sys.executable, "-c", script], stdout=-1)
    try:
        assert process.stdout.readline() == b"done\n"
        before = ProcessTree(process.pid).cpu_seconds()
        time.sleep(0.3)
        # The kernel counts in ticks of 10 ms each; two interpreters' starts come on top.
        assert 0.55 <= before < 1.2
        assert ProcessTree(process.pid).cpu_seconds() - before <= 0.02
    finally:
        process.kill()
        process.wait()


def test_a_process_that_has_left_its_parent_still_belongs_to_the_tree(tmp_path: Path):
    orphan, between = tmp_path / "orphan.py", tmp_path / "between.py"
    orphan.write_text(f"{BURN.format(seconds=0.3)}time.sleep(30)\n")
    # The one in between ends at once, and its child goes to another parent.
    between.write_text(f"import subprocess, sys\nsubprocess.Popen([sys.executable, {str(orphan)!r}])\n")
    script = (
        f"import subprocess, sys, time\nsubprocess.run([sys.executable, {str(between)!r}])\n"
        "print('done', flush=True)\ntime.sleep(30)"
    )
    mark = new_mark()
    process = psutil.Popen([sys.executable, "-c", script], stdout=-1, env={**os.environ, MARK: mark})
    tree = ProcessTree(process.pid, mark)
    try:
        assert process.stdout.readline() == b"done\n"
        assert process.children(recursive=True) == []
        deadline = time.monotonic() + 20
        while tree.cpu_seconds() < 0.29 and time.monotonic() < deadline:
            time.sleep(0.05)
        members = tree.members()
        assert len(members) == 2
        assert tree.cpu_seconds() >= 0.29
        assert tree.resident_bytes() > process.memory_info().rss
        assert 0 < tree.proportional_bytes() <= tree.resident_bytes()
    finally:
        tree.kill()
        process.wait()
    gone, alive = psutil.wait_procs(members, timeout=10)
    assert alive == []
    assert len(gone) == 2


def test_a_detector_that_cannot_start_says_why(repository: ModelRepository):
    with (
        pytest.raises(ServerNotReady, match="intra_op_threads"),
        start_detector(repository.root, {"SIGHTLINE_DETECTOR_INTRA_OP_THREADS": "0"}),
    ):
        pass


def test_the_load_of_others_leaves_out_the_named_processes():
    def burn() -> psutil.Popen:
        return psutil.Popen([sys.executable, "-c", "while True: pass"])

    ours, theirs = burn(), burn()
    try:
        without, with_it = OtherLoad(ours.pid), OtherLoad(ours.pid, theirs.pid)
        before = ProcessTree(theirs.pid).cpu_seconds()
        started = time.perf_counter()
        time.sleep(1.5)
        share = without.share() - with_it.share()
        used = (
            (ProcessTree(theirs.pid).cpu_seconds() - before)
            / (time.perf_counter() - started)
            / psutil.cpu_count()
        )
    finally:
        for process in (ours, theirs):
            process.kill()
            process.wait()
    assert used > 0
    assert share == pytest.approx(used, abs=0.05)
