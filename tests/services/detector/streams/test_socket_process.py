"""A detector of its own process that is told to stop while a stream's WebSocket is open."""

import json
import signal
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.serving import serving_process
from tests.services.detector.test_process import free_port


def test_on_sigterm_a_stream_is_told_and_the_exit_status_is_zero(tmp_path: Path) -> None:
    repository = tiny_stream_repository(tmp_path)
    with serving_process(repository.root, free_port()) as (process, served):
        url = served.url.replace("http", "ws") + "/v1/models/fading/stream?start_us=0"
        with connect(url, proxy=None) as socket:
            socket.recv(10)
            socket.send(json.dumps({"until_us": 50_000}))
            process.send_signal(signal.SIGTERM)
            assert json.loads(socket.recv(10))["sequence"] == 0
            assert json.loads(socket.recv(10))["problem"]["type"] == "urn:sightline:problem:draining"
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert process.wait(5) == 0
