"""Predictions from a running detector over HTTP, patient while it is busy or restarting."""

import contextlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import httpx

from services.detector.cli.predictors import Picture, PictureRefused, Prediction
from shared.vision.decode import decode_image

# Busy (queue full, or waited too long in it), starting or draining: asking again helps.
_PASSING = frozenset({429, 503, 504})
# The picture or its thresholds are at fault; the next picture may be fine.
_REFUSED = frozenset({400, 413, 415, 422})
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 5.0


class ServerUnavailable(RuntimeError):
    """The detector did not take the request within the deadline."""


class PatientClient:
    """Requests to one server, which is asked again while it is busy or cannot be reached.

    It is asked after its Retry-After where it gives one, until `deadline_s` has passed since the first try.
    """

    def __init__(self, client: httpx.Client, deadline_s: float) -> None:
        self._client = client
        self._deadline_s = deadline_s
        self.address = str(client.base_url)

    def close(self) -> None:
        self._client.close()

    def delete(self, path: str) -> None:
        """Ask once, whatever becomes of it."""
        with contextlib.suppress(httpx.TransportError):
            self._client.delete(path)

    def post(self, path: str, **request: Any) -> httpx.Response:
        """Return the answer, whatever its status but a passing one. Raises ServerUnavailable."""
        give_up_at = time.monotonic() + self._deadline_s
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                response = self._client.post(path, **request)
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
                asked_for = 0.0
            else:
                if response.status_code not in _PASSING:
                    return response
                reason = problem_text(response)
                asked_for = _retry_after_s(response)
            # Jitter keeps the threads of one run from coming back all at once.
            pause_s = max(asked_for, wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            if time.monotonic() + pause_s > give_up_at:
                raise ServerUnavailable(
                    f"{self.address} did not take the request for {self._deadline_s:g} s ({reason})"
                )
            time.sleep(pause_s)
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)


class Answers(Protocol):
    """What is asked of an endpoint of one task, and how its answers read."""

    finds: str
    endpoint: str  # "detect", "classify"
    query: Mapping[str, float | int]  # only what the user set; the rest is the model's own
    heatmap: bool

    def read(self, answer: dict[str, Any]) -> Any:
        """Return one picture's answer as a Prediction."""


class RemotePredictor:
    """Calls `POST /v1/models/{model}[/versions/{version}]/{endpoint}` of the detector behind `client`."""

    def __init__(
        self,
        client: PatientClient,
        model: str,
        version: str | None,
        answers: Answers,
        *,
        concurrency: int,
    ) -> None:
        self._client = client
        self.model = model
        self.concurrency = concurrency
        self.finds = answers.finds
        self._answers = answers
        where = f"/v1/models/{model}" if version is None else f"/v1/models/{model}/versions/{version}"
        self._one = f"{where}/{answers.endpoint}"
        self._several = f"/v1/models/{model}/{answers.endpoint}/batch"

    @property
    def source(self) -> str:
        return self._client.address

    def predict(self, pictures: Sequence[Picture]) -> list[Prediction | PictureRefused]:
        """See Predictor. Raises ServerUnavailable, or httpx.HTTPStatusError for what no retry mends."""
        return [self._predict_one(pictures[0])] if len(pictures) == 1 else self._predict_batch(pictures)

    def close(self) -> None:
        self._client.close()

    def _predict_one(self, picture: Picture) -> Prediction | PictureRefused:
        response = self._client.post(
            self._one,
            content=picture.encoded,
            params=dict(self._answers.query),
            headers={"Content-Type": "application/octet-stream"},
        )
        if response.status_code in _REFUSED:
            return PictureRefused(problem_text(response))
        response.raise_for_status()
        return self._heated(picture, self._answers.read(response.json()))

    def _heated(self, picture: Picture, prediction: Any) -> Prediction:
        """Return the answer with the heat map of its strongest label, if that is wanted and there is one."""
        if not self._answers.heatmap or not prediction.present:
            done: Prediction = prediction
            return done
        response = self._client.post(
            self._one,
            content=picture.encoded,
            params={**self._answers.query, "heatmap": prediction.present[0]["label"]},
            headers={"Content-Type": "application/octet-stream", "Accept": "image/png"},
        )
        response.raise_for_status()
        return replace(prediction, heated=decode_image(response.content))

    def _predict_batch(self, pictures: Sequence[Picture]) -> list[Prediction | PictureRefused]:
        files = [("images", ("image", picture.encoded, "application/octet-stream")) for picture in pictures]
        response = self._client.post(self._several, files=files, params=dict(self._answers.query))
        response.raise_for_status()
        answer = response.json()
        version = {"version": answer["version"]}
        return [
            PictureRefused(one["problem"]["detail"])
            if "problem" in one
            else self._heated(picture, self._answers.read(one | version))
            for picture, one in zip(pictures, answer["results"], strict=True)
        ]


def problem_text(response: httpx.Response) -> str:
    """Return what a problem document says, or the bare status where there is none."""
    if "json" in response.headers.get("content-type", ""):
        detail = response.json().get("detail")
        if detail:
            return str(detail)
    return f"{response.status_code} {response.reason_phrase}"


def _retry_after_s(response: httpx.Response) -> float:
    """Return Retry-After in seconds; 0 where it is absent or a date, which Sightline never sends."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else 0.0
