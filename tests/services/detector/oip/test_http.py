"""What goes over the wire, byte by byte, where tritonclient neither sends it nor looks at it."""

import gzip
import json
import zlib
from typing import Any

import httpx
import numpy as np
import pytest
import structlog.testing

from shared.repository import ModelRepository
from tests.services.detector.oip.client import client_of
from tests.services.detector.serving import Served, serving

INFER = "/v2/models/tiny/infer"
HEADER = "Inference-Header-Content-Length"
IMAGES = np.zeros((1, 96, 96, 3), np.uint8)
TENSOR: dict[str, Any] = {"name": "images", "shape": [1, 96, 96, 3], "datatype": "UINT8"}


def binary(document: dict[str, Any], tail: bytes) -> dict[str, Any]:
    text = json.dumps(document).encode()
    return {"content": text + tail, "headers": {HEADER: str(len(text)), "Accept-Encoding": "identity"}}


def request(**tensor: Any) -> dict[str, Any]:
    return {"inputs": [TENSOR | {"parameters": {"binary_data_size": IMAGES.nbytes}} | tensor]}


def tensor_json(*, request_id: Any = None, **tensor: Any) -> bytes:
    return json.dumps({"id": request_id, "inputs": [TENSOR | {"data": [1]} | tensor]}).encode()


def error_of(response: httpx.Response, status: int) -> str:
    """Return the error, which is all that its body may hold."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert list(document) == ["error"]
    assert response.headers["x-request-id"]
    return str(document["error"])


def test_an_answer_with_binary_data_says_where_it_begins(served: Served) -> None:
    asked = request() | {"parameters": {"binary_data_output": True}}
    response = served.client.post(INFER, **binary(asked, IMAGES.tobytes()))
    assert response.headers["content-type"] == "application/octet-stream"
    length = int(response.headers[HEADER])
    document = json.loads(response.content[:length])
    sizes = [output["parameters"]["binary_data_size"] for output in document["outputs"]]
    assert sizes == [16 * 4 * 4, 16 * 4, 16 * 8]
    assert len(response.content) == length + sum(sizes) == int(response.headers["content-length"])


def test_an_answer_without_binary_data_is_plain_json(served: Served) -> None:
    response = served.client.post(INFER, **binary(request(), IMAGES.tobytes()))
    assert response.headers["content-type"] == "application/json"
    assert HEADER not in response.headers
    stages = [part.split(";")[0] for part in response.headers["server-timing"].split(", ")]
    assert stages == ["queue", "preprocess", "compute", "postprocess"]
    assert [len(output["data"]) for output in response.json()["outputs"]] == [64, 16, 16]


def test_an_output_may_differ_from_the_requests_own_form(served: Served) -> None:
    asked = request() | {
        "parameters": {"binary_data_output": True},
        "outputs": [{"name": "labels"}, {"name": "scores", "parameters": {"binary_data": False}}],
    }
    response = served.client.post(INFER, **binary(asked, IMAGES.tobytes()))
    labels, scores = json.loads(response.content[: int(response.headers[HEADER])])["outputs"]
    assert labels["parameters"] == {"binary_data_size": 128}
    assert len(scores["data"]) == 16


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (binary(request(), IMAGES.tobytes() + b"!"), "1 bytes are left behind the tensors"),
        (binary(request(), IMAGES.tobytes()[:-1]), "expecting 27648 bytes of binary data and 27647 are left"),
        (binary(request(parameters={"binary_data_size": 27647}), IMAGES.tobytes()), "1 bytes are left"),
        (
            binary(request(parameters={"binary_data_size": 27647}), IMAGES.tobytes()[:-1]),
            "unexpected total byte size 27647",
        ),
        (binary(request(parameters={"binary_data_size": -1}), IMAGES.tobytes()), "binary_data_size -1"),
        (binary(request(parameters={"binary_data_size": True}), b"!"), "binary_data_size True"),
        (binary(request(parameters={}), IMAGES.tobytes()), "neither 'data' nor binary_data_size"),
        (binary(request(data=[1]), IMAGES.tobytes()), "both 'data' and binary_data_size"),
        ({"json": request()}, "must specify Inference-Header-Content-Length"),
        ({"content": IMAGES.tobytes(), "headers": {HEADER: "27649"}}, "the body has 27648 bytes"),
        ({"content": b"{}", "headers": {HEADER: "-1"}}, "'-1'"),
        ({"content": b"{}", "headers": {HEADER: "two"}}, "'two'"),
        ({"content": b"{}", "headers": {HEADER: "1" * 40}}, "11111"),
        ({"content": b"", "headers": {HEADER: "0"}}, "0 bytes of raw input"),
        ({"content": IMAGES.tobytes()[:-1], "headers": {HEADER: "0"}}, "27647 bytes of raw input"),
    ],
)
def test_left_over_and_missing_bytes_are_400(served: Served, content: dict[str, Any], words: str) -> None:
    assert words in error_of(served.client.post(INFER, **content), 400)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "failed to parse"),
        (b"{", "failed to parse"),
        (b"[]", "has to be a JSON object"),
        (b"null", "has to be a JSON object"),
        (b"\xff\xfe", "failed to parse"),
        (b"[" * 100_000, "failed to parse"),
        (b"NaN" + b"[" * 100_000, "failed to parse"),
        (b'{"id": "\\ud800 NaN", "inputs": []}', "failed to parse"),
        (b'{"inputs": {}}', "no inputs"),
        (b'{"inputs": [1]}', "object with a 'name'"),
        (b'{"inputs": [{"name": 1}]}', "object with a 'name'"),
        (tensor_json(datatype=None), "no 'datatype'"),
        (tensor_json(shape=None), "no 'shape'"),
        (tensor_json(shape=[True]), "no 'shape'"),
        (tensor_json(shape=[-1]), "no 'shape'"),
        (tensor_json(shape=[1.5]), "no 'shape'"),
        (tensor_json(shape=[2**63]), "no 'shape'"),
        (tensor_json(shape=[1] * 41), "41 dimensions"),
        (tensor_json(shape=[2**63 - 1, 96, 96, 3], data=[]), "elements count 0"),
        (tensor_json(datatype="BF16"), "'BF16'"),
        (tensor_json(parameters=[]), "'parameters' of input 'images'"),
        (tensor_json(request_id=5), "'id'"),
    ],
)
def test_what_is_no_request_is_400(served: Served, text: bytes, words: str) -> None:
    assert words in error_of(served.client.post(INFER, content=text), 400)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("text", "no list"),
        ([1.5] * 27648, "that is float; write an integer"),
        ([True] * 27648, "that is bool"),
        ([None] * 27648, "that is NoneType"),
        ([256] * 27648, "UINT8 cannot hold"),
        ([-1] * 27648, "UINT8 cannot hold"),
        ([0] * 27647, "elements count 27647, expected 27648"),
        ([[0] * 27648], "each list at depth 2 has to have 96"),
        ([[[0] * 3] * 96] * 96, "depth 3"),
        ([[[[0] * 3] * 96] * 95 + [7]], "depth 3"),
    ],
)
def test_json_data_that_does_not_fit_is_400(served: Served, data: Any, words: str) -> None:
    response = served.client.post(INFER, json={"inputs": [TENSOR | {"data": data}]})
    assert words in error_of(response, 400)


def test_data_may_be_nested_as_the_shape_is(served: Served) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    answers = [
        served.client.post(
            INFER, json={"inputs": [TENSOR | {"shape": [2, 96, 96, 3], "data": data.tolist()}]}
        ).json()
        for data in (images, images.reshape(-1), images.reshape(2, -1).reshape(2, 96, 96, 3))
    ]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["outputs"][0]["shape"] == [2, 16, 4]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nowhere", 404),
        ("POST", "/v2", 405),
        ("GET", INFER, 405),
        ("DELETE", "/v2/models/tiny", 405),
        ("GET", "/v2/models/nothing", 404),
        ("GET", "/v2/models/tiny/versions/9", 404),
        ("GET", "/v2/models/%00/ready", 404),
        ("POST", "/v2/repository/models/nothing/load", 404),
    ],
)
def test_every_error_below_v2_has_the_protocols_form(
    served: Served, method: str, path: str, status: int
) -> None:
    assert error_of(served.client.request(method, path), status)


def test_errors_elsewhere_stay_problem_documents(served: Served) -> None:
    for path in ("/v1/nowhere", "/v2nowhere", "/"):
        response = served.client.get(path)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == 404


def test_a_failure_in_the_server_has_the_protocols_form_too(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("of a kind that nobody foresaw")

    monkeypatch.setattr("services.detector.oip.routes.models._metadata", broken)
    # Captured, because writing the traceback out takes longer than everything else here.
    with serving(repository.root) as served, structlog.testing.capture_logs():
        error = error_of(served.client.get("/v2/models/tiny"), 500)
        assert "nobody foresaw" not in error
        assert "request" in error


def test_a_damaged_configuration_is_named(repository: ModelRepository) -> None:
    with serving(repository.root) as served:
        (repository.root / "tiny" / "config.pbtxt").write_text("max_batch_size: [")
        assert "config.pbtxt" in error_of(served.client.get("/v2/models/tiny/config"), 500)


# Encodings


def test_an_unknown_encoding_is_415(served: Served) -> None:
    for coding in ("br", "gzip, deflate", "zstd"):
        response = served.client.post(INFER, content=b"{}", headers={"Content-Encoding": coding})
        assert "gzip, deflate or none" in error_of(response, 415)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_stream_that_is_damaged_cut_short_or_followed_by_more_is_400(served: Served, coding: str) -> None:
    good = (gzip.compress if coding == "gzip" else zlib.compress)(json.dumps(request()).encode())
    for content, words in (
        (b"plain", f"not {coding}"),
        (good[:-5], "ends too early"),
        (b"", "ends too early"),
        (good + b"more", "4 bytes are left"),
    ):
        response = served.client.post(INFER, content=content, headers={"Content-Encoding": coding})
        assert words in error_of(response, 400)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_grows_past_the_limit_is_413_and_not_held(served: Served, coding: str) -> None:
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    block = bytes(10_000_000)
    packed = b"".join(bomb.compress(block) for _ in range(10)) + bomb.flush()  # 100 MB in 100 kB
    response = served.client.post(INFER, content=packed, headers={"Content-Encoding": coding})
    assert "2,000,000 bytes once decompressed" in error_of(response, 413)


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("identity", None),
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate, gzip;q=0.5", "deflate"),
        ("gzip;q=0, deflate;q=0", None),
        ("gzip;q=0.2, identity", None),
        ("br, zstd", None),
        ("*", None),
        ("*, identity;q=0", "gzip"),
        ("gzip;q=nonsense", None),
        ("", None),
    ],
)
def test_the_answer_is_encoded_as_the_client_prefers(served: Served, accept: str, coding: str | None) -> None:
    sent = binary(request(), IMAGES.tobytes())
    sent["headers"]["Accept-Encoding"] = accept
    response = served.client.post(INFER, **sent)
    assert response.headers.get("content-encoding") == coding
    assert response.json()["model_name"] == "tiny"


# The repository extension


@pytest.mark.parametrize("content", [b"", b"  \n", b"{}", b'{"ready": false}', b'{"parameters": {}}'])
def test_the_index_takes_an_empty_body(served: Served, content: bytes) -> None:
    response = served.client.post("/v2/repository/index", content=content)
    assert {entry["version"] for entry in response.json() if entry["name"] == "tiny"} == {"1", "2"}


def test_the_index_lists_only_what_is_ready_where_asked_to(served: Served) -> None:
    entries = served.client.post("/v2/repository/index", json={"ready": True}).json()
    assert {(entry["name"], entry["version"]) for entry in entries} == {("tiny", "2"), ("several", "1")}


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"ready": 1}'])
def test_the_index_refuses_what_it_does_not_know(served: Served, content: bytes) -> None:
    assert error_of(served.client.post("/v2/repository/index", content=content), 400)


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_load_and_unload_refuse_what_is_no_request(served: Served, verb: str) -> None:
    for content in (b"[]", b"{", b'{"parameters": [1]}'):
        assert error_of(served.client.post(f"/v2/repository/models/tiny/{verb}", content=content), 400)
    with client_of(served) as client:
        assert client.is_model_ready("tiny")


# What is held in memory


def test_decompressed_bytes_count_against_the_memory_for_bodies(repository: ModelRepository) -> None:
    packed = gzip.compress(json.dumps({"inputs": [TENSOR | {"data": [0] * 27648}]}).encode())
    assert len(packed) < 1000
    with serving(repository.root, max_held_bytes=len(packed) + 1000, max_body_bytes=200_000) as served:
        refused = served.client.post(INFER, content=packed, headers={"Content-Encoding": "gzip"})
        assert "bytes are held already" in error_of(refused, 429)
        assert int(refused.headers["retry-after"]) >= 1
        assert served.metric("sightline_detector_requests_total", outcome="queue_full") == 1
