"""Recordings followed by a running detector: a stream for each, events in chunks, boxes for every window."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np

from services.detector.cli.detections import FoundDetections, RemoteDetections, refuse_heatmap
from services.detector.cli.predictors import Asked
from services.detector.cli.remote import PatientClient, problem_text
from services.detector.cli.streams import GROUP_EVENTS, Follower, StreamRefused
from services.detector.dataplane.streams.formats import EVENT_RECORD, EVENTS
from services.detector.dataplane.streams.windows import Window
from shared.vision.events import Events

# What lies with the recording, its options or its stream; the next one may fare better.
_REFUSED = frozenset({400, 409, 410, 413, 415, 422})


class RemoteStreamPredictor:
    """Opens a stream of the detector behind `client` for every recording; see docs/streams.md.

    manifest: of the version that will answer, as the server gives it.
    """

    finds = "detections"

    def __init__(
        self,
        client: PatientClient,
        model: str,
        version: str | None,
        manifest: dict[str, Any],
        asked: Asked,
    ) -> None:
        refuse_heatmap(asked)
        preprocessing = manifest["preprocessing"]
        self._client = client
        self._asked = asked
        where = f"/v1/models/{quote(model, safe='')}"
        if version is not None:
            where += f"/versions/{quote(version, safe='')}"
        self._streams = f"{where}/streams"
        self.model = model
        self.sensor_size = (preprocessing["sensor_height"], preprocessing["sensor_width"])
        self.window_us = preprocessing["window_ms"] * 1000

    @property
    def source(self) -> str:
        return self._client.address

    @contextlib.contextmanager
    def follow(self, start_us: int) -> Iterator[Follower]:
        """See StreamPredictor. The stream is closed at the end, whatever ends it.

        Raises StreamRefused, ServerUnavailable, or httpx.HTTPStatusError for what is not the recording's.
        """
        height, width = self.sensor_size
        request = {"sensor": {"height": height, "width": width}, "start_us": start_us}
        opened = _answer(self._client.post(self._streams, json=request | dict(self._asked.thresholds)))
        follower = _RemoteFollower(self._client, opened, self._asked)
        try:
            if opened["window_us"] != self.window_us:
                raise StreamRefused(
                    f"{self.model} has windows of {opened['window_us']} us now and had {self.window_us} us "
                    "when this run began; do the recording again"
                )
            yield follower
        finally:
            self._client.delete(follower.path)

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()


class _RemoteFollower:
    def __init__(self, client: PatientClient, opened: dict[str, Any], asked: Asked) -> None:
        self._client = client
        self._answers = RemoteDetections(asked)
        self._opened = opened
        self._sequence = 0
        self._is_first = True
        self.version = opened["version"]
        self.path = f"/v1/streams/{opened['id']}"

    def answer(self, windows: Sequence[Window]) -> list[FoundDetections]:
        """See Follower. A chunk that is sent again has the same number, so it is never applied twice."""
        events = Events.join([self._news_of(window) for window in windows])
        pieces = [events[start : start + GROUP_EVENTS] for start in range(0, len(events), GROUP_EVENTS)]
        answered: list[dict[str, Any]] = []
        for piece in pieces[:-1]:
            answered += self._send(piece, None)
        answered += self._send(pieces[-1] if pieces else events, windows[-1].end_us)
        return [self._read(window, answer) for window, answer in zip(windows, answered, strict=True)]

    def _news_of(self, window: Window) -> Events:
        """Return the events that no earlier window held: both edges belong to a window."""
        is_first, self._is_first = self._is_first, False
        return window.events if is_first else window.events.between(window.start_us + 1, window.end_us)

    def _send(self, events: Events, until_us: int | None) -> list[dict[str, Any]]:
        records = np.empty(len(events), EVENT_RECORD)
        for name in ("x", "y", "t", "p"):
            records[name] = getattr(events, name)
        parameters = {"sequence": self._sequence} | ({} if until_us is None else {"until_us": until_us})
        answer = _answer(
            self._client.post(
                f"{self.path}/chunks",
                content=records.tobytes(),
                params=parameters,
                headers={"Content-Type": EVENTS},
            )
        )
        self._sequence += 1
        windows: list[dict[str, Any]] = answer["windows"]
        return windows

    def _read(self, window: Window, answer: dict[str, Any]) -> FoundDetections:
        if (answer["start_us"], answer["end_us"]) != (window.start_us, window.end_us):
            raise StreamRefused(
                f"the server answered the window from {answer['start_us']} to {answer['end_us']} us where "
                f"{window.start_us} to {window.end_us} us was asked; do the recording again"
            )
        return self._answers.read({**answer, "version": self.version, "image": self._opened["sensor"]})


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.status_code in _REFUSED:
        raise StreamRefused(problem_text(response))
    response.raise_for_status()
    document: dict[str, Any] = response.json()
    return document
