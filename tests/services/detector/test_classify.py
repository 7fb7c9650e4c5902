"""The classify endpoints: labels with probabilities, and where in the picture a label is seen."""

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from services.detector.schemas import ClassifyAnswer, ClassifyBatchAnswer
from shared.repository import ModelRepository
from tests.fixtures.tiny_classification_model import (
    TinyClassifier,
    add_tiny_classifier,
    expected_probability,
)
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.services.detector.pictures import encode
from tests.services.detector.serving import Served, serving

HEIGHT, WIDTH = 64, 128


def painted(height: int = HEIGHT, width: int = WIDTH, **shares: float) -> np.ndarray:
    """A grey picture whose left columns are blue and whose right columns are red, by their shares."""
    picture = np.full((height, width, 3), 90, np.uint8)
    if blue := round(shares.get("blue", 0) * width):
        picture[:, :blue] = (0, 0, 255)
    if red := round(shares.get("red", 0) * width):
        picture[:, width - red :] = (255, 0, 0)
    return picture


PICTURE = encode(painted(red=0.125, blue=0.0625))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    repository = tiny_repository(tmp_path_factory.mktemp("served"))
    add_tiny_classifier(repository)
    add_tiny_classifier(repository, "mapless", TinyClassifier(maps=False))
    add_tiny_classifier(repository, "broken", TinyClassifier(offset=float("nan")))
    with serving(repository.root, max_body_bytes=2_000_000, max_batch_images=4) as served:
        yield served


def classify(served: Served, data: bytes = PICTURE, model: str = "colours", **asked: Any) -> httpx.Response:
    headers = asked.pop("headers", {})
    return served.client.post(f"/v1/models/{model}/classify", content=data, params=asked, headers=headers)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["type"].removeprefix("urn:sightline:problem:")


def test_every_label_comes_with_probability_threshold_and_verdict(served: Served) -> None:
    answer = classify(served).json()
    ClassifyAnswer.model_validate(answer, extra="forbid")
    assert (answer["model"], answer["version"]) == ("colours", 1)
    assert answer["image"] == {"width": WIDTH, "height": HEIGHT}
    red, green, blue = answer["labels"]
    # Red covers an eighth: logit 40/8 − 3 = 2. Blue a sixteenth: 40/16 − 3 = −0.5. Green nothing: −3.
    assert red["probability"] == pytest.approx(1 / (1 + np.exp(-2)), abs=1e-5)
    assert blue["probability"] == pytest.approx(1 / (1 + np.exp(0.5)), abs=1e-5)
    assert green["probability"] == pytest.approx(1 / (1 + np.exp(3)), abs=1e-5)
    assert [label["label_id"] for label in answer["labels"]] == [0, 1, 2]
    assert [label["threshold"] for label in answer["labels"]] == [0.5, 0.5, 0.25]
    # Blue is present with 0.38, because its own threshold is lower.
    assert [label["present"] for label in answer["labels"]] == [True, False, True]


def test_a_multipart_file_gives_the_same_answer_as_raw_bytes(served: Served) -> None:
    form = served.client.post("/v1/models/colours/classify", files={"image": ("a.png", PICTURE)})
    assert form.json()["labels"] == classify(served).json()["labels"]


@pytest.mark.parametrize("way", ["query", "form"])
def test_a_threshold_of_the_request_holds_for_every_label(served: Served, way: str) -> None:
    where = {"params" if way == "query" else "data": {"threshold": "0.4"}}
    answer = served.client.post("/v1/models/colours/classify", files={"image": PICTURE}, **where).json()
    assert [label["threshold"] for label in answer["labels"]] == [0.4] * 3
    assert [label["present"] for label in answer["labels"]] == [True, False, False]


@pytest.mark.parametrize("version", ["1", "live"])
def test_a_version_can_be_named_by_number_or_by_alias(served: Served, version: str) -> None:
    response = served.client.post(f"/v1/models/colours/versions/{version}/classify", content=PICTURE)
    assert response.json()["version"] == 1
    assert len(response.json()["labels"]) == 3


def test_timing_stands_in_header_and_body_alike(served: Served) -> None:
    response = classify(served)
    stages = dict(part.split(";dur=") for part in response.headers["server-timing"].split(", "))
    assert list(stages) == ["queue", "preprocess", "compute", "postprocess"]
    assert {name: float(ms) for name, ms in stages.items()} == response.json()["timing_ms"]
    before = served.metric("sightline_detector_requests_total", model="colours", outcome="ok")
    classify(served)
    assert served.metric("sightline_detector_requests_total", model="colours", outcome="ok") == before + 1


@pytest.mark.parametrize("accept", [None, "image/png", "image/*", "*/*", "image/png, application/json"])
def test_the_heat_map_of_a_label_lies_over_the_picture_sent(served: Served, accept: str | None) -> None:
    # Twice the model's size and square: 64 grey columns of padding on either side in the model.
    sent = painted(256, 256, red=0.25)
    headers = {"Accept": accept} if accept else {}
    response = classify(served, encode(sent), heatmap="red", headers=headers)
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-heatmap-label"] == "red"
    assert response.headers["x-model-version"] == "1"
    shown = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGB")).astype(int)
    assert shown.shape == sent.shape
    changed = np.abs(shown - sent).max(axis=2)
    assert (changed[:, 208:240] > 60).all()  # the middle of the red band
    assert not changed[:, :160].any()  # what is not red stays as it is


def test_a_client_that_prefers_png_gets_the_most_telling_label(served: Served) -> None:
    response = classify(served, headers={"Accept": "image/png"})
    assert response.headers["x-heatmap-label"] == "red"  # 0.38 above its threshold, blue 0.13
    assert response.headers["content-type"] == "image/png"


def test_a_heat_map_that_the_client_cannot_take_is_406(served: Served) -> None:
    response = classify(served, heatmap="red", headers={"Accept": "application/json"})
    assert problem(response) == (406, "not_acceptable")
    assert problem(classify(served, headers={"Accept": "image/jpeg"})) == (406, "not_acceptable")


def test_an_unknown_label_is_answered_with_those_there_are(served: Served) -> None:
    response = classify(served, heatmap="bleu")
    assert problem(response) == (422, "unknown_label")
    assert "did you mean 'blue'?" in response.json()["detail"]
    assert "red, green, blue" in response.json()["detail"]


def test_a_model_without_maps_classifies_and_refuses_heat_maps(served: Served) -> None:
    assert len(classify(served, model="mapless").json()["labels"]) == 3
    assert problem(classify(served, model="mapless", heatmap="red")) == (422, "no_activation_maps")
    png = classify(served, model="mapless", headers={"Accept": "image/png"})
    assert problem(png) == (422, "no_activation_maps")


@pytest.mark.parametrize("endpoint", ["classify", "versions/live/classify", "classify/batch"])
def test_a_detection_model_is_no_classifier(served: Served, endpoint: str) -> None:
    response = served.client.post(f"/v1/models/tiny/{endpoint}", files={"images": PICTURE})
    assert problem(response) == (409, "wrong_task")
    assert "detection" in response.json()["detail"]


@pytest.mark.parametrize("endpoint", ["detect", "versions/live/detect", "detect/batch"])
def test_a_classifier_detects_nothing(served: Served, endpoint: str) -> None:
    response = served.client.post(f"/v1/models/colours/{endpoint}", files={"images": PICTURE})
    assert problem(response) == (409, "wrong_task")
    assert "classification" in response.json()["detail"]


def test_outputs_that_are_not_finite_are_500_and_no_verdict(served: Served) -> None:
    assert problem(classify(served, model="broken")) == (500, "inference_failed")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (400, "empty_image")),
        (b"steel", (415, "not_an_image")),
        (PICTURE[: len(PICTURE) // 2], (422, "truncated_image")),
    ],
)
def test_bytes_that_are_no_good_picture_are_refused(
    served: Served, data: bytes, expected: tuple[int, str]
) -> None:
    assert problem(classify(served, data)) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [("threshold", "nan"), ("threshold", "1.01"), ("threshold", "-0.1"), ("score_threshold", "0.5")],
)
@pytest.mark.parametrize("way", ["query", "form"])
def test_fields_that_make_no_sense_are_refused_by_name(
    served: Served, way: str, field: str, value: str
) -> None:
    where: dict[str, Any] = {"params" if way == "query" else "data": {field: value}}
    response = served.client.post("/v1/models/colours/classify", files={"image": PICTURE}, **where)
    assert problem(response)[0] == 422
    assert field in response.json()["detail"]


def test_a_label_stated_in_query_and_form_is_refused(served: Served) -> None:
    response = served.client.post(
        "/v1/models/colours/classify?heatmap=red", files={"image": PICTURE}, data={"heatmap": "blue"}
    )
    assert problem(response) == (422, "wrong_form")


def test_several_pictures_are_answered_in_their_order(served: Served) -> None:
    files = [("images", encode(painted(red=share))) for share in (0.0, 0.25)] + [("images", b"GIF89a")]
    answer = served.client.post("/v1/models/colours/classify/batch", files=files).json()
    ClassifyBatchAnswer.model_validate(answer)
    first, second, gif = answer["results"]
    assert first["labels"][0]["probability"] == pytest.approx(expected_probability(0), abs=1e-5)
    assert second["labels"][0]["probability"] == pytest.approx(expected_probability(0.25), abs=1e-5)
    assert gif["problem"]["status"] == 415


def test_a_batch_has_thresholds_and_no_heat_maps(served: Served) -> None:
    files = [("images", PICTURE)] * 2
    answer = served.client.post(
        "/v1/models/colours/classify/batch", files=files, data={"threshold": "0.95"}
    ).json()
    assert not any(label["present"] for result in answer["results"] for label in result["labels"])
    refused = served.client.post("/v1/models/colours/classify/batch", files=files, data={"heatmap": "red"})
    assert problem(refused) == (422, "wrong_form")
    many = served.client.post("/v1/models/colours/classify/batch", files=[("images", PICTURE)] * 5)
    assert problem(many) == (413, "too_many_images")


def test_an_alias_may_move_to_another_task_and_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    repository: ModelRepository = tiny_repository(tmp_path_factory.mktemp("tasks"), name="m")
    add_tiny_classifier(repository, "m")
    with serving(repository.root, aliases=("live", "previous")) as both:
        assert both.client.post("/v1/models/m/classify", content=PICTURE).status_code == 200
        previous = both.client.post("/v1/models/m/versions/previous/detect", content=PICTURE)
        assert previous.status_code == 200
        assert problem(both.client.post("/v1/models/m/detect", content=PICTURE)) == (409, "wrong_task")


def test_the_open_inference_protocol_classifies_pictures_and_tensors(served: Served) -> None:
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "images",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(PICTURE) + 4},
                }
            ]
        }
    ).encode()
    body = header + len(PICTURE).to_bytes(4, "little") + PICTURE
    response = served.client.post(
        "/v2/models/colours/infer",
        content=body,
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert response.status_code == 200, response.text
    (output,) = response.json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [1, 3])
    stated = [label["probability"] for label in classify(served).json()["labels"]]
    assert output["data"] == pytest.approx(stated, abs=1e-6)
