"""The same answers and the same refusals, whichever way a request takes to its endpoint."""

from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from services.detector.fast_lane import FastLane
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Served

PICTURE = encode(two_rectangles())
DETECT = "/v1/models/tiny/detect"


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths that went on to the framework."""
    paths: list[str] = []
    through = FastLane.__call__

    async def noted(lane: FastLane, scope: Any, receive: Any, send: Any) -> None:
        app = lane._app

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            paths.append(scope["path"])
            await app(scope, receive, send)

        lane._app = slow
        try:
            await through(lane, scope, receive, send)
        finally:
            lane._app = app

    monkeypatch.setattr(FastLane, "__call__", noted)
    return paths


def without_times(response: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    return {key: value for key, value in body.items() if key not in ("timing_ms", "request_id")}


def test_a_plain_picture_takes_the_lane_and_a_query_or_a_form_the_framework(
    served: Served, taken: list[str]
) -> None:
    fast = served.client.post(DETECT, content=PICTURE)
    assert taken == []
    slow = served.client.post(DETECT, content=PICTURE, params={"max_detections": 100})
    form = served.client.post(DETECT, files={"image": PICTURE})
    assert taken == [DETECT, DETECT]
    assert without_times(fast) == without_times(slow) == without_times(form)
    times = {"x-request-id", "server-timing", "date", "content-length"}
    headers = [{k: v for k, v in one.headers.items() if k not in times} for one in (fast, slow)]
    assert headers[0] == headers[1]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (DETECT, b"no picture"),
        (DETECT, b""),
        (DETECT, PICTURE[:200]),
        ("/v1/models/tinny/detect", PICTURE),
        ("/v1/models/a%3Fb%23c%5Cd%0A/detect", PICTURE),
        ("/v1/models/tiny/versions/9/detect", PICTURE),
        ("/v1/models/tiny/versions/previous/detect", PICTURE),
    ],
)
def test_refusals_are_the_same_on_both_ways(
    served: Served, taken: list[str], path: str, content: bytes
) -> None:
    fast = served.client.post(path, content=content)
    assert taken == []
    slow = served.client.post(f"{path}?max_detections=1", content=content)
    assert taken == [unquote(path)]
    assert fast.status_code == slow.status_code != 200
    assert without_times(fast) == without_times(slow)


def test_what_the_shell_refuses_never_reaches_the_lane(served: Served, taken: list[str]) -> None:
    from_elsewhere = {"Sec-Fetch-Site": "cross-site"}
    assert served.client.post(DETECT, content=PICTURE, headers=from_elsewhere).status_code == 403
    unload = "/v2/repository/models/tiny/unload"
    assert served.client.post(unload, headers=from_elsewhere).status_code == 403
    assert served.client.post(DETECT, content=PICTURE).status_code == 200
    assert taken == []


def test_requests_are_counted_under_their_route(served: Served) -> None:
    route = {"route": "/v1/models/{model}/detect", "method": "POST", "status": "200"}
    before = served.metric("sightline_http_requests_total", **route)
    served.client.post(DETECT, content=PICTURE)
    served.client.post(DETECT, content=PICTURE, params={"max_detections": 1})
    assert served.metric("sightline_http_requests_total", **route) == before + 2


def test_other_methods_and_neighbouring_paths_are_the_frameworks(served: Served) -> None:
    assert served.client.get(DETECT).status_code == 405
    slash = served.client.post(f"{DETECT}/", headers={"Host": "elsewhere.example"})
    assert (slash.status_code, slash.headers.get("location")) == (404, None)
    assert served.client.post("/v1/models/a/b/detect").status_code == 404
