import pytest

from services.detector.schemas import BatchAnswer
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import Served

PICTURE = encode(two_rectangles())
MIRRORED = encode(two_rectangles()[:, ::-1])


def test_results_come_in_the_order_of_the_pictures_and_equal_single_answers(served: Served) -> None:
    files = [("images", PICTURE), ("images", MIRRORED), ("images", PICTURE)]
    answer = served.client.post("/v1/models/tiny/detect/batch", files=files).json()
    BatchAnswer.model_validate(answer)
    assert (answer["model"], answer["version"]) == ("tiny", 2)
    alone = [served.detect(data).json()["detections"] for data in (PICTURE, MIRRORED, PICTURE)]
    assert [result["detections"] for result in answer["results"]] == alone
    assert alone[0] != alone[1]


def test_a_bad_picture_has_its_problem_in_its_place_and_spoils_no_other(served: Served) -> None:
    files = [("images", PICTURE), ("images", b"GIF89a"), ("images", b""), ("images", PICTURE)]
    response = served.client.post("/v1/models/tiny/detect/batch", files=files)
    assert response.status_code == 200
    good, gif, empty, also_good = response.json()["results"]
    assert len(good["detections"]) == len(also_good["detections"]) == 2
    assert gif["problem"]["status"] == 415
    assert empty["problem"]["status"] == 400
    assert gif["problem"]["request_id"] == response.headers["x-request-id"]


def test_thresholds_hold_for_every_picture(served: Served) -> None:
    files = [("images", PICTURE), ("images", PICTURE)]
    response = served.client.post(
        "/v1/models/tiny/detect/batch", files=files, data={"score_threshold": "0.8"}
    )
    assert [len(result["detections"]) for result in response.json()["results"]] == [1, 1]


@pytest.mark.parametrize(("count", "status"), [(4, 200), (5, 413), (50, 413)])
def test_more_pictures_than_the_setting_allows_are_refused(served: Served, count: int, status: int) -> None:
    response = served.client.post("/v1/models/tiny/detect/batch", files=[("images", PICTURE)] * count)
    assert response.status_code == status


def test_a_body_that_is_no_form_is_415(served: Served) -> None:
    response = served.client.post(
        "/v1/models/tiny/detect/batch", content=PICTURE, headers={"Content-Type": "image/png"}
    )
    assert response.status_code == 415
    assert "multipart/form-data" in response.json()["detail"]
