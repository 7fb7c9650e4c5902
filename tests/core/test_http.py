from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel
from starlette.testclient import WebSocketDenialResponse

from shared.core.http import PROBLEM_JSON, ErrorForm
from shared.core.settings import CommonSettings

from .conftest import BODY_LIMIT_BYTES, make_app

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/missing", 404, "not_found"),
        ("GET", "/v1/full", 429, "queue_full"),
        ("GET", "/v1/broken", 500, "internal_error"),
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/numbers", 405, "method_not_allowed"),
        ("POST", "/v1/numbers", 422, "unprocessable_content"),
    ],
)
async def test_every_error_has_one_shape(
    client: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await client.request(method, path)
    assert response.status_code == status
    assert response.headers["content-type"] == PROBLEM_JSON
    document = response.json()
    assert {"type", "title", "status", "detail", "instance", "request_id"} <= document.keys()
    assert document["type"] == f"urn:sightline:problem:{code}"
    assert document["status"] == status
    assert document["instance"] == path
    assert document["request_id"] == response.headers["x-request-id"]


class Short(BaseModel):
    short: str


async def test_a_protocol_may_bring_its_own_form_of_errors() -> None:
    """For every path below its prefix, whoever raised the problem, and for no other."""
    form = ErrorForm(
        prefix="/v1",
        media_type="application/json",
        document=lambda path, _, problem: {"short": f"{path} {problem.status}"},
        schema=Short,
    )
    app = make_app(CommonSettings(api_keys="key"), error_forms=[form])
    async with client_of(app) as client:
        for method, path, status in (
            ("GET", "/v1/missing", 404),
            ("GET", "/v1/broken", 500),
            ("POST", "/v1/numbers", 422),
            ("GET", "/v1/numbers", 405),
            ("GET", "/v1", 404),
        ):
            response = await client.request(method, path, headers={"X-API-Key": "key"})
            assert response.status_code == status
            assert response.headers["content-type"] == "application/json"
            assert response.json() == {"short": f"{path} {status}"}
        refused = await client.get("/v1/missing")
        assert (refused.status_code, refused.json()) == (401, {"short": "/v1/missing 401"})
        elsewhere = await client.get("/v10", headers={"X-API-Key": "key"})
        assert elsewhere.headers["content-type"] == PROBLEM_JSON
    document = app.openapi()
    described = document["paths"]["/v1/numbers"]["post"]["responses"]["422"]["content"]
    assert described == {"application/json": {"schema": {"$ref": "#/components/schemas/Short"}}}
    assert document["components"]["schemas"]["Short"] == Short.model_json_schema()


async def test_a_problem_carries_its_extension_members(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/missing")).json()["nearest"] == "person"


async def test_retry_after_is_whole_seconds_rounded_up(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/full")).headers["retry-after"] == "2"


async def test_an_unexpected_error_tells_nothing_of_its_inside(client: httpx.AsyncClient) -> None:
    assert "secret" not in (await client.get("/v1/broken")).text


async def test_a_wrong_field_is_named(client: httpx.AsyncClient) -> None:
    document = (await client.post("/v1/numbers", json={"value": "many"})).json()
    assert document["errors"][0]["field"] == "body.value"
    assert "body.value" in document["detail"]


@pytest.mark.parametrize(
    ("given", "kept"), [("abc-1.2_3", True), ("a" * 129, False), ("with space", False), ("", False)]
)
async def test_a_request_id_is_kept_when_it_is_harmless(
    client: httpx.AsyncClient, given: str, kept: bool
) -> None:
    response = await client.get("/livez", headers={"X-Request-Id": given})
    assert (response.headers["x-request-id"] == given) is kept
    assert response.headers["x-request-id"]


async def test_a_body_at_the_limit_passes_and_one_byte_more_does_not(client: httpx.AsyncClient) -> None:
    at_limit = await client.post("/v1/bytes/x", content=b"a" * BODY_LIMIT_BYTES)
    assert at_limit.json() == {"bytes": BODY_LIMIT_BYTES}
    over = await client.post("/v1/bytes/x", content=b"a" * (BODY_LIMIT_BYTES + 1))
    assert over.status_code == 413
    assert over.json()["limit_bytes"] == BODY_LIMIT_BYTES


@pytest.mark.parametrize("path", ["/v1/bytes/x", "/v1/numbers"])
async def test_a_body_of_undeclared_length_is_counted_as_it_comes(
    client: httpx.AsyncClient, path: str
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"a" * 100

    response = await client.post(path, content=chunks())
    assert response.status_code == 413


@pytest.mark.parametrize("path", ["/v1/bytes/x", "/v1/numbers"])
async def test_a_client_that_goes_before_its_body_is_answered_nothing(app: FastAPI, path: str) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app(scope, gone, send)
    assert sent == []


async def test_without_a_valid_key_only_the_operations_answer() -> None:
    async with client_of(make_app(CommonSettings(api_keys="right"))) as client:
        for path in ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200, path
        refused = await client.get("/v1/slow?seconds=0", headers={"X-API-Key": "wrong"})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/v1/slow?seconds=0")).status_code == 401
        for headers in ({"X-API-Key": "right"}, {"Authorization": "Bearer right"}):
            assert (await client.get("/v1/slow?seconds=0", headers=headers)).status_code == 200


async def test_readiness_gives_its_reasons(app: FastAPI, client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
    app.state.reasons = ["no model loaded"]
    response = await client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["reasons"] == ["no model loaded"]
    app.state.reasons = []
    app.state.draining = True
    assert "draining" in (await client.get("/readyz")).json()["reasons"][0]


async def test_requests_are_counted_by_route_and_never_by_path(client: httpx.AsyncClient) -> None:
    for name in ("a", "b"):
        await client.post(f"/v1/bytes/{name}", content=b"x")
    await client.get("/nowhere/at/all")
    families = text_string_to_metric_families((await client.get("/metrics")).text)
    samples = [s for family in families for s in family.samples if s.name == "sightline_http_requests_total"]
    counts = {(s.labels["route"], s.labels["status"]): s.value for s in samples}
    assert counts == {("/v1/bytes/{name}", "200"): 2.0, ("unmatched", "404"): 1.0}


async def test_the_openapi_document_states_problems_as_what_they_are(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    reference = {"$ref": "#/components/schemas/ProblemDocument"}
    schema = document["components"]["schemas"]["ProblemDocument"]
    assert set(schema["required"]) == {"type", "title", "status", "detail", "instance", "request_id"}
    responses = document["paths"]["/v1/numbers"]["post"]["responses"]
    assert {"400", "401", "408", "413", "422", "500"} <= responses.keys()
    for status, response in responses.items():
        if int(status) >= 400:
            assert response["content"] == {PROBLEM_JSON: {"schema": reference}}, status
    assert "HTTPValidationError" not in str(document)


async def test_another_sites_page_may_follow_links_and_nothing_else(client: httpx.AsyncClient) -> None:
    from_elsewhere = {"Sec-Fetch-Site": "cross-site", "Origin": "http://elsewhere.example"}
    refused = await client.post("/v1/bytes/a", content=b"abc", headers=from_elsewhere)
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:sightline:problem:cross_site")
    assert "access-control-allow-origin" not in refused.headers
    for own in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert (await client.post("/v1/bytes/a", content=b"abc", headers=own)).status_code == 200
    followed_link = await client.get("/livez", headers={"Sec-Fetch-Site": "cross-site"})
    assert followed_link.status_code == 200
    assert "access-control-allow-origin" not in followed_link.headers


def test_a_websocket_is_refused_where_the_service_says_that_it_has_none(app: FastAPI) -> None:
    @app.websocket("/v1/socket")
    async def accept(socket: WebSocket) -> None:
        await socket.accept()

    with TestClient(app) as client, pytest.raises(WebSocketDenialResponse) as refused:  # noqa: SIM117
        with client.websocket_connect("/v1/socket"):
            pass
    assert refused.value.status_code == 404
