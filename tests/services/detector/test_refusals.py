"""What is wrong with a request is said in one shape, with a status that tells a client what to do."""

import struct
import zlib
from typing import Any

import pytest

from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Served

PNG = encode(two_rectangles())
JPEG = encode(two_rectangles(), "JPEG")
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'


def png_of(width: int, height: int) -> bytes:
    """A PNG whose header states a size and whose picture data is next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    document: dict[str, Any] = response.json()
    assert (response.status_code, document["status"]) == (status, status), document
    assert response.headers["content-type"] == "application/problem+json"
    assert document["type"] == f"urn:sightline:problem:{code}"
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == response.headers["x-request-id"]
    return document


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        pytest.param(b"", 400, "empty_image", id="empty"),
        pytest.param(b"hello", 415, "not_an_image", id="text"),
        pytest.param(encode(two_rectangles(), "GIF"), 415, "not_an_image", id="gif"),
        pytest.param(SVG, 415, "not_an_image", id="svg"),
        pytest.param(encode(two_rectangles(), "TIFF"), 415, "not_an_image", id="tiff"),
        pytest.param(JPEG + b"<!DOCTYPE html><script>1</script>", 415, "not_an_image", id="polyglot html"),
        pytest.param(PNG + b"PK\x03\x04" + bytes(60), 415, "not_an_image", id="polyglot zip"),
        pytest.param(JPEG[: len(JPEG) // 2], 422, "truncated_image", id="half a jpeg"),
        pytest.param(PNG[: len(PNG) // 2], 422, "truncated_image", id="half a png"),
        pytest.param(png_of(20_000, 10_000), 413, "image_too_large", id="200 megapixels"),
    ],
)
def test_bytes_that_are_no_good_picture_are_refused(
    served: Served, data: bytes, status: int, code: str
) -> None:
    assert_problem(served.detect(data), status, code)
    assert served.detect(PNG).status_code == 200


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("score_threshold", "nan"),
        ("score_threshold", "inf"),
        ("score_threshold", "-0.1"),
        ("score_threshold", "1.01"),
        ("score_threshold", "half"),
        ("iou_threshold", "NaN"),
        ("iou_threshold", "-inf"),
        ("iou_threshold", "2"),
        ("max_detections", "0"),
        ("max_detections", "-1"),
        ("max_detections", "1.5"),
        ("max_detections", "99999999999999999999"),
        ("score_treshold", "0.5"),
    ],
)
@pytest.mark.parametrize("way", ["query", "form"])
def test_thresholds_that_make_no_sense_are_refused_by_name(
    served: Served, way: str, field: str, value: str
) -> None:
    where: dict[str, Any] = {"params" if way == "query" else "data": {field: value}}
    response = served.client.post("/v1/models/tiny/detect", files={"image": PNG}, **where)
    code = "wrong_form" if way == "form" and field == "score_treshold" else "unprocessable_content"
    assert field in assert_problem(response, 422, code)["detail"]


@pytest.mark.parametrize("path", ["detect", "detect/batch"])
def test_a_threshold_that_the_query_states_twice_is_refused(served: Served, path: str) -> None:
    files = {"images" if path.endswith("batch") else "image": PNG}
    response = served.client.post(
        f"/v1/models/tiny/{path}?score_threshold=0.1&score_threshold=0.2", files=files
    )
    assert "score_threshold" in assert_problem(response, 422, "wrong_form")["detail"]


def test_an_unknown_model_is_answered_with_the_nearest_name(served: Served) -> None:
    document = assert_problem(served.detect(PNG, model="tinny"), 404, "unknown_model")
    assert "did you mean 'tiny'?" in document["detail"]


@pytest.mark.parametrize("version", ["3", "0", "-1", "2.0", "lively", "99999999999999999999999", "²"])
def test_an_unknown_version_is_answered_with_those_there_are(served: Served, version: str) -> None:
    response = served.client.post(f"/v1/models/tiny/versions/{version}/detect", content=PNG)
    document = assert_problem(response, 404, "unknown_version")
    assert "1, 2, live" in document["detail"]


def test_a_version_that_is_there_but_not_loaded_says_how_to_get_it_loaded(served: Served) -> None:
    response = served.client.post("/v1/models/tiny/versions/1/detect", content=PNG)
    assert "SIGHTLINE_DETECTOR_ALIASES" in assert_problem(response, 409, "version_not_loaded")["detail"]


def test_a_refusal_before_the_body_was_read_leaves_the_connection_usable(served: Served) -> None:
    for _ in range(3):
        assert_problem(served.detect(bytes(1_900_000), model="tinny"), 404, "unknown_model")
        assert served.detect(PNG).status_code == 200


def test_a_body_over_the_limit_is_refused(served: Served) -> None:
    assert_problem(served.detect(bytes(2_000_001)), 413, "payload_too_large")


@pytest.mark.parametrize(
    "body", [b"", b"--x\r\n", b"not multipart", b"--x--\r\n", b"--x\r\n\r\nfoo\r\n--x--\r\n"]
)
def test_a_broken_form_is_the_clients_fault(served: Served, body: bytes) -> None:
    response = served.client.post(
        "/v1/models/tiny/detect", content=body, headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_form_in_a_charset_that_reads_nothing_is_the_clients_fault(served: Served) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="image"\r\n\r\n\xff\r\n--x--\r\n'
    kind = "multipart/form-data; boundary=x; charset=undefined"
    response = served.client.post("/v1/models/tiny/detect", content=part, headers={"Content-Type": kind})
    assert "charset" in assert_problem(response, 400, "bad_request")["detail"]


def test_a_form_without_the_file_says_which_field_is_missing(served: Served) -> None:
    response = served.client.post("/v1/models/tiny/detect", files={"image": PNG, "picture": PNG})
    assert "'picture'" in assert_problem(response, 422, "wrong_form")["detail"]


def test_a_file_sent_as_text_is_told_how_to_be_sent(served: Served) -> None:
    response = served.client.post("/v1/models/tiny/detect", files={"image": (None, b"street.jpg")})
    assert "image=@FILE" in assert_problem(response, 422, "wrong_form")["detail"]


def test_two_files_where_one_belongs_are_refused(served: Served) -> None:
    response = served.client.post("/v1/models/tiny/detect", files=[("image", PNG), ("image", PNG)])
    assert "/detect/batch" in assert_problem(response, 413, "too_many_images")["detail"]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_another_method_is_405_in_the_same_shape(served: Served, method: str) -> None:
    response = served.client.request(method, "/v1/models/tiny/detect")
    assert response.status_code == 405
    assert response.headers["content-type"] == "application/problem+json"
