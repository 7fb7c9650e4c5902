"""An unmodified client of streams over WebSockets, with the few lines that every test of them needs."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from services.detector.schemas import ChunkDetections
from tests.fixtures.tiny_stream_model import LABELS
from tests.services.detector.serving import Served
from tests.services.detector.streams.recordings import Offline, events_at, packed

STREAM = "/v1/models/fading/stream"
FROM_ZERO = f"{STREAM}?start_us=0"
ONE_EVENT = packed(events_at((10_000, 30, 7, 1)))


@contextlib.contextmanager
def opened(served: Served, path: str = FROM_ZERO, **headers: str) -> Iterator["Socket"]:
    """A stream that has said what it is."""
    with connected(served, path, **headers) as client:
        yield Socket(client, said(client))


@contextlib.contextmanager
def connected(served: Served, path: str, **headers: str) -> Iterator[ClientConnection]:
    url = served.url.replace("http", "ws") + path
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with connect(url, additional_headers=named, proxy=None, max_size=None) as client:
        yield client


class Socket:
    """A connection and what the server said when the stream was opened."""

    def __init__(self, client: ClientConnection, view: dict[str, Any]) -> None:
        self.client = client
        self.view = view

    def ask(self, message: bytes | dict[str, Any]) -> dict[str, Any]:
        self.send(message)
        return self.said()

    def send(self, message: bytes | dict[str, Any]) -> None:
        self.client.send(message if isinstance(message, bytes) else json.dumps(message))

    def said(self) -> dict[str, Any]:
        return said(self.client)

    def closed(self) -> tuple[int, str]:
        """Return the code and the reason with which the server closes, after nothing more."""
        with pytest.raises(ConnectionClosed) as end:
            self.client.recv(10)
        assert end.value.rcvd is not None, "the server went without a word"
        return end.value.rcvd.code, end.value.rcvd.reason


def said(client: ClientConnection) -> dict[str, Any]:
    message = client.recv(10)
    assert isinstance(message, str)
    document: dict[str, Any] = json.loads(message)
    return document


def refused(served: Served, path: str, **headers: str) -> httpx.Response:
    """Return the HTTP response to a handshake that must not succeed."""
    with pytest.raises(InvalidStatus) as refusal, connected(served, path, **headers):
        pass
    answer = refusal.value.response
    sent = list(answer.headers.raw_items())
    return httpx.Response(answer.status_code, headers=sent, content=bytes(answer.body))


def found(*answers: dict[str, Any]) -> Offline:
    """Return the windows of answers as boxes, scores and labels, after a look at their form."""
    windows: Offline = []
    for answer in answers:
        ChunkDetections.model_validate(answer)
        for window in answer["windows"]:
            one = window["detections"]
            boxes = np.array([list(item["box"].values()) for item in one]).reshape(-1, 4)
            scores = np.array([item["score"] for item in one])
            labels = np.array([LABELS.index(item["label"]) for item in one], np.int64)
            windows.append((boxes, scores, labels))
    return windows


def open_streams(served: Served) -> float:
    return served.metric("sightline_detector_streams_open")


def is_computing(served: Served, stream: Socket) -> bool:
    """Return whether a window is with the model; a stream that waits is idle since it was last asked."""
    return served.client.get(f"/v1/streams/{stream.view['id']}").json()["idle_s"] == 0
