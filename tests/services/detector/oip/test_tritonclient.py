"""The unmodified tritonclient.http works end to end; nothing else is used to ask the server here.

What the answers must be comes from an ONNX Runtime session on the same file (`reference`).
"""

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from numpy.typing import NDArray

from services.detector.dataplane.session import Tensors
from shared.repository import ModelRepository
from tests.fixtures.several_tensors_model import INPUTS, OUTPUTS
from tests.fixtures.tiny_classification_model import add_tiny_classifier, expected_probability
from tests.fixtures.tiny_detection_model import TinyModel, add_tiny_version, paint, tiny_repository
from tests.services.detector.oip.client import client_of, pictures, refused, tensor, tensors
from tests.services.detector.oip.conftest import Reference
from tests.services.detector.pictures import BLUE_BOX, BLUE_SCORE, RED_BOX, RED_SCORE, encode, two_rectangles
from tests.services.detector.serving import Gate, Served, serving, until

Client = triton.InferenceServerClient
COMPRESSIONS = [None, "gzip", "deflate"]


def batch(rows: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Pictures of the size of `tiny`, each with a rectangle of its own."""
    images = np.full((rows, 96, 96, 3), 30, np.uint8)
    for row, image in enumerate(images):
        value = int(rng.integers(140, 256))
        paint(image, (2 + row % 8, 3, 12 + row % 8, 20), row % 3, value)
    return images


def assert_equal(result: triton.InferResult, expected: dict[str, NDArray[Any]]) -> None:
    assert [output["name"] for output in result.get_response()["outputs"]] == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(result.as_numpy(name), array, err_msg=name)
        assert result.as_numpy(name).dtype == array.dtype


# Server and models


def test_a_ready_server_is_live_and_ready_and_so_is_its_model(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("tiny", "1")  # in the repository, and no alias means it
    assert not client.is_model_ready("nothing")


def test_the_server_names_the_extensions_that_work_and_no_others(client: Client) -> None:
    metadata = client.get_server_metadata()
    assert metadata["name"] == "sightline"
    assert metadata["version"]
    assert set(metadata["extensions"]) == {
        "binary_tensor_data",
        "model_configuration",
        "model_repository",
        "parameters",
        "schedule_policy",
        "sequence",
        "statistics",
    }


def test_model_metadata_is_the_graphs(client: Client) -> None:
    tiny = client.get_model_metadata("tiny")
    assert (tiny["name"], tiny["versions"], tiny["platform"]) == ("tiny", ["2"], "onnxruntime_onnx")
    assert tiny["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 96, 96, 3]}]
    assert tiny["outputs"] == [
        {"name": "boxes", "datatype": "FP32", "shape": [-1, 16, 4]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, 16]},
        {"name": "labels", "datatype": "INT64", "shape": [-1, 16]},
    ]
    assert client.get_model_metadata("tiny", "2") == tiny
    assert client.get_model_metadata("tiny", "live") == tiny
    several = client.get_model_metadata("several")
    assert [found["datatype"] for found in several["inputs"]] == ["UINT8", "FP32", "FP16", "INT64"]


def test_the_configuration_has_tritons_names(client: Client) -> None:
    config = client.get_model_config("tiny")
    assert config["name"] == "tiny"
    assert config["max_batch_size"] == 16
    assert config["backend"] == "onnxruntime"
    assert config["input"] == [{"name": "images", "data_type": "TYPE_UINT8", "dims": [96, 96, 3]}]
    assert config["output"][2] == {"name": "labels", "data_type": "TYPE_INT64", "dims": [16]}
    assert config["version_policy"] == {"specific": {"versions": [1, 2]}}
    assert client.get_model_config("tiny", "2") == config


def test_questions_about_what_is_not_there_are_refused(client: Client) -> None:
    for ask in (
        client.get_model_metadata,
        client.get_model_config,
        client.get_inference_statistics,
        client.load_model,
        client.unload_model,
    ):
        with refused(404, "no model is called 'tinny'", "did you mean 'tiny'"):
            ask("tinny")
    for ask in (client.get_model_metadata, client.get_model_config, client.get_inference_statistics):
        with refused(404, "tiny has no version '7'"):
            ask("tiny", "7")
        with refused(409, "version 1 of tiny is in the repository and not loaded"):
            ask("tiny", "1")


# Inference


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_several_inputs_and_outputs_in_both_forms(
    client: Client,
    reference: Reference,
    several: dict[str, NDArray[Any]],
    binary_in: bool,
    binary_out: bool,
) -> None:
    wanted = [triton.InferRequestedOutput(spec.name, binary_data=binary_out) for spec in OUTPUTS]
    result = client.infer("several", tensors(several, binary=binary_in), outputs=wanted)
    assert_equal(result, reference("several", several))
    for output in result.get_response()["outputs"]:
        assert ("data" in output) is not binary_out
        assert ("binary_data_size" in output.get("parameters", {})) is binary_out


def test_forms_may_be_mixed_and_outputs_come_in_the_order_asked_for(
    client: Client, reference: Reference, several: dict[str, NDArray[Any]]
) -> None:
    inputs = [tensor(name, several[name], binary=name in ("half", "picture")) for name in reversed(several)]
    outputs = [
        triton.InferRequestedOutput("total", binary_data=True),
        triton.InferRequestedOutput("next_ids", binary_data=False),
        triton.InferRequestedOutput("halves", binary_data=True),
    ]
    result = client.infer("several", inputs, outputs=outputs)
    expected = reference("several", several)
    assert_equal(result, {name: expected[name] for name in ("total", "next_ids", "halves")})
    assert [("data" in output) for output in result.get_response()["outputs"]] == [False, True, False]


def test_without_outputs_all_come_as_binary_data(
    client: Client, reference: Reference, several: dict[str, NDArray[Any]]
) -> None:
    result = client.infer("several", tensors(several))
    assert_equal(result, reference("several", several))
    assert all("binary_data_size" in output["parameters"] for output in result.get_response()["outputs"])


def test_integers_of_64_bits_survive_json(client: Client, several: dict[str, NDArray[Any]]) -> None:
    wanted = [triton.InferRequestedOutput("next_ids", binary_data=False)]
    result = client.infer("several", tensors(several, binary=False), outputs=wanted)
    assert result.get_response()["outputs"][0]["data"] == [
        2**53 + 2, 0, 1, 2**63 - 1, -(2**63) + 1, 8,
    ]  # fmt: skip


@pytest.mark.parametrize("binary", [True, False])
def test_nan_and_infinity_pass_both_ways(
    client: Client, several: dict[str, NDArray[Any]], binary: bool
) -> None:
    several["scale"] = np.array([np.nan, -np.inf], np.float32).reshape(2, 1, 1, 1)
    several["picture"][:] = 1
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("scaled", "total")]
    result = client.infer("several", tensors(several, binary=binary), outputs=outputs)
    assert np.isnan(result.as_numpy("scaled")[0]).all()
    np.testing.assert_array_equal(result.as_numpy("scaled")[1], np.full((2, 3, 3), -np.inf))
    np.testing.assert_array_equal(result.as_numpy("total"), [np.nan, -np.inf])


@pytest.mark.parametrize("rows", [1, 3, 16])
def test_every_batch_size_up_to_the_configured_one_is_answered(
    client: Client, reference: Reference, rng: np.random.Generator, rows: int
) -> None:
    images = batch(rows, rng)
    result = client.infer("tiny", tensors({"images": images}))
    assert_equal(result, reference("tiny", {"images": images}))


@pytest.mark.parametrize("request_compression", COMPRESSIONS)
@pytest.mark.parametrize("response_compression", COMPRESSIONS)
def test_compression_both_ways(
    client: Client,
    reference: Reference,
    rng: np.random.Generator,
    request_compression: str | None,
    response_compression: str | None,
) -> None:
    images = batch(2, rng)
    for binary in (True, False):
        result = client.infer(
            "tiny",
            tensors({"images": images}, binary=binary),
            outputs=[
                triton.InferRequestedOutput(name, binary_data=binary)
                for name in ("boxes", "scores", "labels")
            ],
            request_compression_algorithm=request_compression,
            response_compression_algorithm=response_compression,
        )
        assert_equal(result, reference("tiny", {"images": images}))


def test_the_request_id_and_the_version_that_answered_come_back(
    client: Client, rng: np.random.Generator
) -> None:
    asked = tensors({"images": batch(1, rng)})
    answer = client.infer("tiny", asked, request_id="order 66 é").get_response()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("order 66 é", "tiny", "2")
    answer = client.infer("tiny", asked, model_version="2").get_response()
    assert answer["model_version"] == "2"
    assert "id" not in answer


def test_a_raw_body_is_the_one_input(client: Client, reference: Reference, rng: np.random.Generator) -> None:
    """tritonclient has no call for it, but its own machinery to post a body and to read the answer."""
    images = batch(3, rng)
    response = client._post(
        "v2/models/tiny/infer", images.tobytes(), {"Inference-Header-Content-Length": 0}, None
    )
    assert response.status_code == 200
    assert_equal(triton.InferResult(response, False), reference("tiny", {"images": images}))


def test_bodies_made_and_read_apart_from_the_call_work_too(
    client: Client, reference: Reference, rng: np.random.Generator
) -> None:
    images = batch(1, rng)
    body, json_size = Client.generate_request_body(tensors({"images": images}), request_id="made apart")
    response = client._post(
        "v2/models/tiny/infer", body, {"Inference-Header-Content-Length": json_size}, None
    )
    header_length = int(response.get("Inference-Header-Content-Length"))
    result = Client.parse_response_body(response.read(), header_length=header_length)
    assert_equal(result, reference("tiny", {"images": images}))
    assert result.get_response()["id"] == "made apart"


def test_requests_at_once_each_get_their_own_answer(
    client: Client, served: Served, reference: Reference, rng: np.random.Generator
) -> None:
    many = [batch(1 + row % 3, rng) for row in range(40)]
    with client_of(served, concurrency=16) as several_connections:
        pending = [
            several_connections.async_infer("tiny", tensors({"images": images}), request_id=str(number))
            for number, images in enumerate(many)
        ]
        results = [one.get_result() for one in pending]
    for number, (images, result) in enumerate(zip(many, results, strict=True)):
        assert result.get_response()["id"] == str(number)
        assert_equal(result, reference("tiny", {"images": images}))


def test_errors_of_async_calls_arrive_where_the_result_is_fetched(
    client: Client, rng: np.random.Generator
) -> None:
    pending = client.async_infer("nothing", tensors({"images": batch(1, rng)}))
    with refused(404, "no model is called 'nothing'"):
        pending.get_result()


def test_the_asyncio_client_works_too(served: Served, reference: Reference, rng: np.random.Generator) -> None:
    images = batch(2, rng)

    async def ask() -> None:
        async with triton_aio.InferenceServerClient(served.url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            assert (await client.get_model_metadata("tiny"))["name"] == "tiny"
            results = await asyncio.gather(
                *(
                    client.infer(
                        "tiny",
                        tensors({"images": images}),
                        request_compression_algorithm=compression,
                        response_compression_algorithm=compression,
                    )
                    for compression in COMPRESSIONS
                )
            )
            for result in results:
                assert_equal(result, reference("tiny", {"images": images}))
            with refused(404, "nothing"):
                await client.infer("nothing", tensors({"images": images}))

    asyncio.run(ask())


# What is refused


def test_a_wrong_tensor_is_refused_in_tritons_words(client: Client, several: dict[str, NDArray[Any]]) -> None:
    with refused(400, "unexpected inference input 'picture' for model 'tiny'"):
        client.infer("tiny", tensors({"picture": np.zeros((1, 96, 96, 3), np.uint8)}))
    with refused(400, "inference input 'images' data-type is 'FP32', but model 'tiny' expects 'UINT8'"):
        client.infer("tiny", tensors({"images": np.zeros((1, 96, 96, 3), np.float32)}))
    with refused(
        400,
        "unexpected shape for input 'images' for model 'tiny'. Expected [-1,96,96,3], got [1,64,64,3]",
    ):
        client.infer("tiny", tensors({"images": np.zeros((1, 64, 64, 3), np.uint8)}))
    with refused(400, "unexpected shape", "got [96,96,3]"):
        client.infer("tiny", tensors({"images": np.zeros((96, 96, 3), np.uint8)}))
    with refused(400, "max_batch_size", "16", "17 rows"):
        client.infer("tiny", tensors({"images": np.zeros((17, 96, 96, 3), np.uint8)}))
    with refused(400, "batch-size must be at least 1"):
        client.infer("tiny", tensors({"images": np.zeros((0, 96, 96, 3), np.uint8)}))
    without_ids = {name: array for name, array in several.items() if name != "ids"}
    with refused(400, "expected 4 inputs but got 3", "missing required input(s) ['ids']"):
        client.infer("several", tensors(without_ids))
    with refused(400, "one batch size", "'picture' 1"):
        client.infer("several", tensors(several | {"picture": several["picture"][:1]}))
    with refused(400, "input 'scale' is there twice"):
        client.infer("several", [*tensors(several), tensor("scale", several["scale"])])
    with refused(400, "no inputs"):
        client.infer("tiny", [])


def test_a_shape_changed_after_its_data_is_noticed(client: Client) -> None:
    for binary, words in ((True, "unexpected total byte size 27648"), (False, "elements count 27648")):
        changed = tensor("images", np.zeros((1, 96, 96, 3), np.uint8), binary=binary).set_shape(
            [2, 96, 96, 3]
        )
        with refused(400, words, "'images'", "55296"):
            client.infer("tiny", [changed])


def test_outputs_that_do_not_exist_or_cannot_be_had_are_refused(
    client: Client, rng: np.random.Generator
) -> None:
    asked = tensors({"images": batch(1, rng)})
    with refused(400, "unexpected inference output 'box' for model 'tiny'", "boxes"):
        client.infer("tiny", asked, outputs=[triton.InferRequestedOutput("box")])
    with refused(400, "output 'boxes' is there twice"):
        client.infer("tiny", asked, outputs=[triton.InferRequestedOutput("boxes")] * 2)
    with refused(400, "classification"):
        client.infer("tiny", asked, outputs=[triton.InferRequestedOutput("scores", class_count=3)])
    in_memory = triton.InferRequestedOutput("scores")
    in_memory.set_shared_memory("region", 64)
    with refused(400, "shared memory"):
        client.infer("tiny", asked, outputs=[in_memory])
    input_in_memory = triton.InferInput("images", [1, 96, 96, 3], "UINT8").set_shared_memory("region", 27648)
    with refused(400, "shared memory"):
        client.infer("tiny", [input_in_memory])


def test_extensions_that_are_not_advertised_do_not_pretend_to_work(client: Client) -> None:
    for call in (
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        client.get_trace_settings,
        client.get_log_settings,
    ):
        with refused(404, "not found"):
            call()


def test_sequences_are_refused_and_parameters_of_others_are_not(
    client: Client, reference: Reference, rng: np.random.Generator
) -> None:
    images = batch(1, rng)
    with refused(400, "keeps no state", "sequence_id"):
        client.infer("tiny", tensors({"images": images}), sequence_id=5, sequence_start=True)
    result = client.infer("tiny", tensors({"images": images}), parameters={"of_another_backend": 3})
    assert_equal(result, reference("tiny", {"images": images}))


def test_a_body_past_the_limit_is_413_compressed_or_not(client: Client) -> None:
    large = tensors({"images": np.zeros((80, 96, 96, 3), np.uint8)})  # 2.2 MB of the 2 MB allowed
    for compression in COMPRESSIONS:
        with refused(413, "2,000,000"):
            client.infer("tiny", large, request_compression_algorithm=compression)


def test_a_wrong_key_is_401_with_the_protocols_error(
    repository: ModelRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_API_KEYS", "secret")
    with serving(repository.root) as served, client_of(served) as client:
        assert not client.is_server_live()
        with refused(401, "X-API-Key"):
            client.get_server_metadata()
        assert client.get_server_metadata(headers={"X-API-Key": "secret"})["name"] == "sightline"
        assert client.is_server_ready(headers={"Authorization": "Bearer secret"})


# Pictures


def test_a_picture_goes_in_as_bytes_and_its_detections_come_out(client: Client) -> None:
    for shape in ([1], [1, 1]):
        picture = triton.InferInput("images", shape, "BYTES")
        picture.set_data_from_numpy(np.array([encode(two_rectangles())], np.object_).reshape(shape))
        result = client.infer("tiny", [picture])
        np.testing.assert_array_equal(result.as_numpy("boxes"), [[RED_BOX, BLUE_BOX]])
        np.testing.assert_allclose(result.as_numpy("scores"), [[RED_SCORE, BLUE_SCORE]], atol=1e-6)
        np.testing.assert_array_equal(result.as_numpy("labels"), [[0, 2]])
        np.testing.assert_array_equal(result.as_numpy("num_detections"), [2])
        assert [result.as_numpy(name).dtype for name in ("boxes", "scores", "labels", "num_detections")] == [
            np.float32, np.float32, np.int64, np.int64,
        ]  # fmt: skip


def test_pictures_with_different_numbers_of_detections_share_a_tensor(client: Client) -> None:
    empty = np.full((40, 60, 3), 30, np.uint8)
    result = client.infer("tiny", pictures(encode(empty), encode(two_rectangles()), encode(empty)))
    np.testing.assert_array_equal(result.as_numpy("num_detections"), [0, 2, 0])
    np.testing.assert_array_equal(result.as_numpy("boxes")[1], [RED_BOX, BLUE_BOX])
    assert result.as_numpy("boxes").shape == (3, 2, 4)
    assert not result.as_numpy("boxes")[[0, 2]].any()
    nothing = client.infer("tiny", pictures(encode(empty)))
    assert nothing.as_numpy("boxes").shape == (1, 0, 4)
    assert nothing.as_numpy("scores").shape == (1, 0)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"score_threshold": 0.7},
        {"max_detections": 1},
        {"score_threshold": 0, "iou_threshold": 1, "max_detections": 3},
    ],
)
def test_detections_equal_those_of_the_native_route(
    client: Client, served: Served, rng: np.random.Generator, parameters: dict[str, float]
) -> None:
    picture = rng.integers(0, 256, (75, 130, 3), np.uint8)
    paint(picture, (10, 10, 30, 25), 1, 222)
    data = encode(picture, "JPEG")
    native = served.detect(data, **parameters).json()["detections"]
    result = client.infer("tiny", pictures(data), parameters=parameters or None)
    assert len(native) == result.as_numpy("num_detections")[0] > 0
    np.testing.assert_allclose(
        result.as_numpy("boxes")[0],
        [[one["box"][side] for side in ("x1", "y1", "x2", "y2")] for one in native],
        atol=1e-3,  # where the native route rounds
    )
    np.testing.assert_allclose(result.as_numpy("scores")[0], [one["score"] for one in native], atol=1e-6)
    np.testing.assert_array_equal(result.as_numpy("labels")[0], [one["label_id"] for one in native])


def test_pictures_of_a_classifier_are_answered_with_probabilities(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    add_tiny_classifier(repository, "sorter")
    half_red, quarter_blue = np.full((2, 64, 128, 3), 90, np.uint8)
    half_red[:, :64] = (255, 0, 0)
    quarter_blue[:32, :64] = (0, 0, 255)
    with serving(repository.root) as served, client_of(served) as client:
        result = client.infer("sorter", pictures(encode(half_red), encode(quarter_blue)))
        half, quarter, none = (expected_probability(share) for share in (0.5, 0.25, 0))
        expected = [[half, none, none], [none, none, quarter]]
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected, atol=1e-5)
        with refused(400, "knows no parameter 'score_threshold'"):
            client.infer("sorter", pictures(encode(half_red)), parameters={"score_threshold": 0.5})


def test_wrong_pictures_and_parameters_are_refused(client: Client) -> None:
    good = encode(two_rectangles())
    with refused(415, "picture 1: "):
        client.infer("tiny", pictures(good, b"not a picture"))
    with refused(422):
        client.infer("tiny", pictures(encode(two_rectangles(), "JPEG")[:-200]))
    with refused(400, "no bytes"):
        client.infer("tiny", pictures(b""))
    with refused(400, "n from 1 to 4", "got [5]"):
        client.infer("tiny", pictures(*[good] * 5))
    with refused(400, "got [1,2]"):
        square = triton.InferInput("images", [1, 2], "BYTES")
        client.infer("tiny", [square.set_data_from_numpy(np.array([[good, good]], np.object_))])
    with refused(400, "unexpected inference input 'image'"):
        client.infer("tiny", pictures(good, name="image"))
    with refused(400, "unexpected inference output 'embedding'", "num_detections"):
        client.infer("tiny", pictures(good), outputs=[triton.InferRequestedOutput("embedding")])
    with refused(400, "score_threshold has to be a number from 0 to 1, not 1.5"):
        client.infer("tiny", pictures(good), parameters={"score_threshold": 1.5})
    with refused(400, "'score_treshold'", "did you mean 'score_threshold'"):
        client.infer("tiny", pictures(good), parameters={"score_treshold": 0.1})
    with refused(400, "max_detections has to be an integer"):
        client.infer("tiny", pictures(good), parameters={"max_detections": 2.5})
    with refused(400, "data-type is 'BYTES', but model 'several' expects 'UINT8'"):
        zeros = {spec.name: np.zeros(np.abs(spec.shape), spec.dtype) for spec in INPUTS}
        client.infer("several", [*pictures(good, name="picture"), *tensors(zeros)[1:]])


# Schedule


def infer_alone(served: Served, rows: int = 1, pixel: int = 0, **options: Any) -> triton.InferResult:
    """Ask in a client of its own, since one may not be used from several threads."""
    images = np.full((rows, 96, 96, 3), pixel, np.uint8)
    with client_of(served) as client:
        return client.infer("tiny", tensors({"images": images}), **options)


def infer_picture(served: Served, picture: bytes, **parameters: Any) -> triton.InferResult:
    with client_of(served) as client:
        return client.infer("tiny", pictures(picture), parameters=parameters)


@contextlib.contextmanager
def one_computing(served: Served, gate: Gate, runs: list[Tensors]) -> Iterator[None]:
    """Keep the only instance busy; its request is answered at the end."""
    with ThreadPoolExecutor(1) as pool:
        before = len(runs)
        gate.close()
        first = pool.submit(infer_alone, served)
        until(lambda: len(runs) > before)
        try:
            yield
        finally:
            gate.open()
        assert first.result().as_numpy("scores").shape == (1, 16)


def queue_depth(served: Served) -> float:
    return served.metric("sightline_detector_queue_depth")


def test_a_timeout_in_microseconds_ends_the_wait_in_the_queue(
    repository: ModelRepository, gate: Gate, runs: list[Tensors]
) -> None:
    with serving(repository.root, instances=1, deadline_s=20.0) as served:
        with one_computing(served, gate, runs):
            before = len(runs)
            with refused(504, "within 0.1 s"):
                infer_alone(served, timeout=100_000)
        assert len(runs) == before
        assert served.metric("sightline_detector_dropped_total", reason="deadline") == 1


def test_the_servers_deadline_holds_where_the_timeout_is_longer(
    repository: ModelRepository, gate: Gate, runs: list[Tensors]
) -> None:
    with (
        serving(repository.root, instances=1, deadline_s=0.1) as served,
        one_computing(served, gate, runs),
        refused(504, "within 0.1 s"),
    ):
        infer_alone(served, timeout=60_000_000)


def test_a_higher_priority_is_taken_first(
    repository: ModelRepository, gate: Gate, runs: list[Tensors]
) -> None:
    with serving(repository.root, instances=1) as served, ThreadPoolExecutor(4) as pool:
        with one_computing(served, gate, runs):
            before = len(runs)
            waiting = []
            for depth, priority in enumerate((50, 0, 1), start=1):  # 0 is the usual level, between the two
                waiting.append(pool.submit(infer_alone, served, pixel=priority, priority=priority))
                until(lambda depth=depth: queue_depth(served) == depth)
        for one in waiting:
            one.result()
    assert [int(inputs["images"][0, 0, 0, 0]) for inputs in runs[before:]] == [1, 0, 50]


@pytest.mark.parametrize("parameter", [{"priority": -1}, {"timeout": -5}, {"timeout": 0.5}])
def test_an_impossible_schedule_is_refused(client: Client, parameter: dict[str, Any]) -> None:
    name = next(iter(parameter))
    with refused(400, f"'{name}' has to be an integer from 0 up"):
        client.infer("tiny", tensors({"images": np.zeros((1, 96, 96, 3), np.uint8)}), **parameter)


def test_a_full_queue_is_429_with_retry_after(
    repository: ModelRepository, gate: Gate, runs: list[Tensors]
) -> None:
    with serving(repository.root, instances=1, queue_size=1) as served, ThreadPoolExecutor(1) as pool:
        with one_computing(served, gate, runs):
            second = pool.submit(infer_alone, served)
            until(lambda: queue_depth(served) == 1)
            with refused(429, "Retry-After"):
                infer_alone(served)
            with client_of(served) as client:
                response = client._post("v2/models/tiny/infer", b"{}", None, None)
                assert response.status_code == 429
                assert int(response.get("Retry-After")) >= 1
        assert second.result().as_numpy("scores").shape == (1, 16)


def test_both_protocols_meet_in_one_batch_and_each_gets_what_it_asked_for(
    repository: ModelRepository, gate: Gate, runs: list[Tensors], reference: Reference
) -> None:
    picture = encode(two_rectangles())
    batched = serving(repository.root, instances=1, max_batch=8, max_delay_ms=0)
    with batched as served, ThreadPoolExecutor(4) as pool, client_of(served) as client:
        with one_computing(served, gate, runs):
            before = len(runs)
            native = pool.submit(served.detect, picture, score_threshold=0.9)
            protocol = pool.submit(infer_picture, served, picture, score_threshold=0.5)
            raw = pool.submit(infer_alone, served, rows=3, pixel=7)
            until(lambda: queue_depth(served) == 5)
        assert [one["label"] for one in native.result().json()["detections"]] == ["red"]
        np.testing.assert_array_equal(protocol.result().as_numpy("boxes"), [[RED_BOX, BLUE_BOX]])
        assert_equal(raw.result(), reference("tiny", {"images": np.full((3, 96, 96, 3), 7, np.uint8)}))
        assert [len(inputs["images"]) for inputs in runs[before:]] == [5]
        (stats,) = client.get_inference_statistics()["model_stats"]
        assert stats["inference_stats"]["success"]["count"] == 4
        assert stats["inference_count"] == 6


def test_a_client_that_goes_is_dropped_before_compute(
    repository: ModelRepository, gate: Gate, runs: list[Tensors]
) -> None:
    with serving(repository.root, instances=1) as served:
        with one_computing(served, gate, runs):
            before = len(runs)
            with client_of(served, network_timeout=0.2) as impatient, pytest.raises(TimeoutError):
                impatient.infer("tiny", tensors({"images": np.zeros((1, 96, 96, 3), np.uint8)}))
            until(lambda: served.metric("sightline_detector_dropped_total", reason="client_gone") == 1)
        assert len(runs) == before


# The repository and what was counted


def test_statistics_count_requests_rows_and_runs(repository: ModelRepository) -> None:
    with serving(repository.root, max_batch=4) as served, client_of(served) as client:
        (before,) = client.get_inference_statistics()["model_stats"]
        assert (before["inference_count"], before["execution_count"], before["last_inference"]) == (0, 0, 0)
        images = np.zeros((3, 96, 96, 3), np.uint8)
        client.infer("tiny", tensors({"images": images}))
        client.infer("tiny", tensors({"images": images[:1]}))
        with refused(415):
            client.infer("tiny", pictures(b"not a picture"))
        stats = client.get_inference_statistics("tiny", "1")
        assert stats == client.get_inference_statistics("tiny")
        assert stats == client.get_inference_statistics()
        (one,) = stats["model_stats"]
        assert (one["name"], one["version"]) == ("tiny", "1")
        assert (one["inference_count"], one["execution_count"]) == (4, 2)
        assert one["last_inference"] > 1_600_000_000_000  # milliseconds, of this decade
        durations = one["inference_stats"]
        assert durations["success"]["count"] == durations["compute_infer"]["count"] == 2
        assert durations["fail"]["count"] == 1
        assert durations["success"]["ns"] >= durations["compute_infer"]["ns"] > 0
        assert {batch["batch_size"]: batch["compute_infer"]["count"] for batch in one["batch_stats"]} == {
            1: 1,
            3: 1,
        }


def test_the_index_lists_versions_with_state_and_reason(client: Client) -> None:
    index = {(entry["name"], entry["version"]): entry for entry in client.get_model_repository_index()}
    assert set(index) == {("tiny", "1"), ("tiny", "2"), ("several", "1")}
    assert index["tiny", "2"] == {"name": "tiny", "version": "2", "state": "READY", "reason": ""}
    assert index["tiny", "1"]["state"] == "UNAVAILABLE"
    assert index["tiny", "1"]["reason"]


def test_a_model_is_unloaded_and_loaded_again(repository: ModelRepository, rng: np.random.Generator) -> None:
    asked = tensors({"images": batch(1, rng)})
    with serving(repository.root) as served, client_of(served) as client:
        before = client.infer("tiny", asked).as_numpy("scores")
        client.unload_model("tiny")
        assert not client.is_model_ready("tiny")
        assert not client.is_server_ready()
        assert client.is_server_live()
        assert [entry["state"] for entry in client.get_model_repository_index()] == ["UNAVAILABLE"]
        with refused(503, "unloaded"):
            client.infer("tiny", asked)
        client.load_model("tiny")
        assert client.is_model_ready("tiny")
        assert client.is_server_ready()
        np.testing.assert_array_equal(client.infer("tiny", asked).as_numpy("scores"), before)
        client.load_model("tiny")  # again, which changes nothing
        client.unload_model("tiny", unload_dependents=True)
        assert not client.is_model_ready("tiny")


def test_load_brings_what_the_alias_means_now(repository: ModelRepository, rng: np.random.Generator) -> None:
    asked = tensors({"images": batch(1, rng)})
    with serving(repository.root, poll_interval_s=30.0) as served, client_of(served) as client:
        before = client.infer("tiny", asked).as_numpy("scores")
        add_tiny_version(repository, model=TinyModel(score_scale=0.5))
        client.load_model("tiny")
        result = client.infer("tiny", asked)
        assert result.get_response()["model_version"] == "2"
        np.testing.assert_allclose(result.as_numpy("scores"), before / 2)


def test_a_model_that_cannot_be_loaded_says_why_and_the_old_one_goes_on(repository: ModelRepository) -> None:
    with serving(repository.root, poll_interval_s=30.0) as served, client_of(served) as client:
        add_tiny_version(repository)
        with (repository.path("tiny", 2) / "model.onnx").open("ab") as file:
            file.write(b"\0")
        with refused(409, "cannot be loaded", "model.onnx"):
            client.load_model("tiny")
        assert client.is_model_ready("tiny", "1")


def test_a_configuration_or_files_in_place_of_the_repositorys_are_refused(client: Client) -> None:
    with refused(400, "'config' cannot replace"):
        client.load_model("tiny", config="{}")
    # With `files` tritonclient cannot write its own JSON (bytes in it), so they are sent as it would.
    response = client._post(
        "v2/repository/models/tiny/load", '{"parameters": {"file:1/model.onnx": "QUJD"}}', None, None
    )
    assert response.status_code == 400
    assert client.is_model_ready("tiny")


def test_a_server_without_a_model_is_live_and_not_ready(tmp_path: Path) -> None:
    with serving(tmp_path, wait_ready=False) as served, client_of(served) as client:
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert client.get_model_repository_index() == []
        assert client.get_inference_statistics() == {"model_stats": []}


def test_several_models_answer_side_by_side(tmp_path: Path, rng: np.random.Generator) -> None:
    repository = tiny_repository(tmp_path)
    add_tiny_version(repository, "dimmer", TinyModel(score_scale=0.5))
    with serving(repository.root) as served, client_of(served) as client:
        asked = tensors({"images": batch(1, rng)})
        full, half = (client.infer(name, asked).as_numpy("scores") for name in ("tiny", "dimmer"))
        np.testing.assert_allclose(half, full / 2)
        client.unload_model("dimmer")
        assert client.is_server_ready()
        assert [
            entry["name"] for entry in client.get_model_repository_index() if entry["state"] == "READY"
        ] == ["tiny"]
