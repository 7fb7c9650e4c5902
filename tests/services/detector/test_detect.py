import io

import pytest
from PIL import Image

from services.detector.schemas import DetectAnswer
from tests.services.detector.pictures import (
    BLUE_BOX,
    BLUE_SCORE,
    RED_BOX,
    RED_SCORE,
    SIZE,
    boxes,
    encode,
    labels,
    two_rectangles,
)
from tests.services.detector.serving import Served

PICTURE = encode(two_rectangles())


def test_the_answer_to_raw_bytes_names_what_is_in_the_picture_and_where(served: Served) -> None:
    answer = served.detect(PICTURE).json()
    assert boxes(answer) == [RED_BOX, BLUE_BOX]
    assert labels(answer) == ["red", "blue"]
    assert [found["score"] for found in answer["detections"]] == pytest.approx(
        [RED_SCORE, BLUE_SCORE], abs=1e-6
    )
    assert answer["image"] == {"width": SIZE, "height": SIZE}
    assert (answer["model"], answer["version"]) == ("tiny", 2)


def test_the_answer_is_what_openapi_says(served: Served) -> None:
    DetectAnswer.model_validate(served.detect(PICTURE).json(), extra="forbid")


def test_boxes_are_in_the_pixels_of_the_picture_sent_not_of_the_letterbox(served: Served) -> None:
    # Twice the model's size and twice as wide as high: 4 source pixels become 1, with a grey band of a
    # quarter of the height above and below.
    wide = Image.new("RGB", (384, 192), (30, 30, 30))
    wide.paste((0, 255, 0), (8, 8, 72, 56))
    answer = served.detect(encode(wide)).json()
    assert boxes(answer) == [(8, 8, 72, 56)]
    assert labels(answer) == ["green"]


def test_a_multipart_file_gives_the_same_answer_as_raw_bytes(served: Served) -> None:
    raw = served.detect(PICTURE).json()
    form = served.client.post("/v1/models/tiny/detect", files={"image": ("a.png", PICTURE)}).json()
    assert form["detections"] == raw["detections"]


@pytest.mark.parametrize("way", ["query", "form"])
def test_thresholds_of_a_request_take_the_place_of_the_models_own(served: Served, way: str) -> None:
    def detect(**fields: str) -> list[str]:
        where = {"params" if way == "query" else "data": fields}
        response = served.client.post("/v1/models/tiny/detect", files={"image": PICTURE}, **where)
        return labels(response.json())

    assert detect(score_threshold="0.8") == ["red"]  # blue's score is 0.784
    assert detect(score_threshold="0.78") == ["red", "blue"]
    assert detect(max_detections="1") == ["red"]
    assert detect(score_threshold="1") == ["red"]


def test_a_threshold_stated_twice_is_refused_rather_than_chosen_from(served: Served) -> None:
    response = served.client.post(
        "/v1/models/tiny/detect?score_threshold=0.8",
        files={"image": PICTURE},
        data={"score_threshold": "0.7"},
    )
    assert response.status_code == 422
    assert "score_threshold" in response.json()["detail"]


def test_a_client_that_prefers_jpeg_gets_the_picture_with_boxes_drawn_in(served: Served) -> None:
    response = served.client.post(
        "/v1/models/tiny/detect", content=PICTURE, headers={"Accept": "image/jpeg, */*;q=0.1"}
    )
    assert response.headers["content-type"] == "image/jpeg"
    picture = Image.open(io.BytesIO(response.content))
    assert picture.size == (SIZE, SIZE)
    # The box's line runs along its upper edge, in a colour that is neither the ground's nor the red's.
    original = Image.fromarray(two_rectangles())
    middle_of_edge = ((RED_BOX[0] + RED_BOX[2]) // 2, RED_BOX[3] - 1)
    assert picture.convert("RGB").getpixel(middle_of_edge) != original.getpixel(middle_of_edge)


def test_a_client_that_accepts_neither_form_gets_406(served: Served) -> None:
    response = served.client.post("/v1/models/tiny/detect", content=PICTURE, headers={"Accept": "image/png"})
    assert response.status_code == 406


def test_server_timing_says_where_the_time_went(served: Served) -> None:
    response = served.detect(PICTURE)
    stages = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert list(stages) == ["queue", "preprocess", "compute", "postprocess"]
    assert {name: float(ms) for name, ms in stages.items()} == response.json()["timing_ms"]
    assert all(0 <= float(ms) < 10_000 for ms in stages.values())


@pytest.mark.parametrize("version", ["2", "live"])
def test_a_version_can_be_named_by_number_or_by_alias(served: Served, version: str) -> None:
    response = served.client.post(f"/v1/models/tiny/versions/{version}/detect", content=PICTURE)
    assert response.json()["version"] == 2
    assert boxes(response.json()) == [RED_BOX, BLUE_BOX]


def test_a_request_id_comes_back_with_the_answer(served: Served) -> None:
    response = served.client.post("/v1/models/tiny/detect", content=PICTURE, headers={"X-Request-Id": "abc"})
    assert response.headers["x-request-id"] == "abc"
