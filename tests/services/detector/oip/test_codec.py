"""Tensors survive both forms unchanged, and no sequence of bytes is more than a problem of its caller."""

import json
import math
from typing import Any

import hypothesis.extra.numpy as hypothesis_numpy
import numpy as np
import orjson
import pytest
import tritonclient.utils as triton_utils
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.detector.oip import byte_elements, encoding, json_data
from services.detector.oip.answer import join_rows, write_answer
from services.detector.oip.datatypes import NUMPY, name_of
from services.detector.oip.graph_inputs import encoded_pictures, graph_inputs, read_raw_request
from services.detector.oip.problems import WrongRequest
from services.detector.oip.request import InferRequest, RequestedOutput, header_length, read_request
from shared.core.problems import PayloadTooLarge, Problem
from shared.repository.manifest import FileEntry, Manifest, TensorSpec, complete
from tests.fixtures.several_tensors_model import INPUTS
from tests.fixtures.tiny_detection_model import tiny_manifest

FILES = {"model.onnx": FileEntry(sha256="0" * 64, bytes=0)}
TINY = complete(tiny_manifest(), name="tiny", version=1, files=FILES)


def manifest_of(*inputs: TensorSpec) -> Manifest:
    draft = tiny_manifest().model_copy(update={"inputs": list(inputs)})
    return complete(draft, name="made_up", version=1, files=FILES)


SEVERAL = manifest_of(*INPUTS)
SHAPES = hypothesis_numpy.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    dtype = NUMPY[draw(st.sampled_from(sorted(NUMPY)))]
    return draw(hypothesis_numpy.arrays(dtype, draw(SHAPES)))


def test_the_names_of_types_are_tritons() -> None:
    for name, dtype in NUMPY.items():
        assert triton_utils.np_to_triton_dtype(dtype) == name
        assert triton_utils.triton_to_np_dtype(name) == dtype
        assert name_of(dtype) == name
    assert name_of(np.dtype(object)) == "BYTES"


@given(arrays())
def test_an_array_survives_json(array: NDArray[Any]) -> None:
    document = {"outputs": [{"name": "x", "datatype": "x", "data": json_data.write_array(array, "x")}]}
    data = json_data.read_document(json_data.write_document(document))["outputs"][0]["data"]
    back = json_data.read_array(data, name_of(array.dtype), array.shape, "x")
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype


@given(arrays())
def test_an_array_survives_nested_json_of_pythons_own(array: NDArray[Any]) -> None:
    data = json_data.read_document(json.dumps(array.tolist()).encode())
    back = json_data.read_array(data, name_of(array.dtype), array.shape, "x")
    np.testing.assert_array_equal(back, array)


@given(arrays(), st.integers(0, 9))
def test_an_array_survives_binary_data_at_any_offset(array: NDArray[Any], padding: int) -> None:
    array = array.reshape(1, *array.shape)
    kind = name_of(array.dtype)
    if kind not in ("UINT8", "FP16", "FP32", "INT64"):  # the types of manifests
        return
    dtype: Any = array.dtype.name
    manifest = manifest_of(TensorSpec(name="x", dtype=dtype, shape=[-1] * array.ndim))
    tensor = {"name": "x", "shape": array.shape, "datatype": kind}
    header = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": array.nbytes}}]})
    text = header.encode() + b" " * padding
    back = graph_inputs(read_request(text + array.tobytes(), len(text)), manifest)["x"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    assert back.flags.aligned


def test_binary_data_is_not_copied_where_its_place_allows_that() -> None:
    images = np.zeros((1, 96, 96, 3), np.uint8)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "images",
                    "shape": [1, 96, 96, 3],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": images.nbytes},
                }
            ]
        }
    ).encode()
    body = header + images.tobytes()
    array = graph_inputs(read_request(body, len(header)), TINY)["images"]
    assert np.shares_memory(array, np.frombuffer(body, np.uint8))


@given(st.lists(st.binary(max_size=20), max_size=6))
def test_byte_elements_are_written_and_read_as_triton_does(elements: list[bytes]) -> None:
    written = byte_elements.write_elements(elements)
    expected = triton_utils.serialize_byte_tensor(np.array(elements, np.object_))
    assert written == (expected.item() if expected.size else b"")
    assert byte_elements.read_elements(memoryview(written), len(elements), "x") == elements


@given(st.binary(max_size=40), st.integers(0, 4))
def test_any_bytes_as_byte_elements_are_elements_or_refused(raw: bytes, count: int) -> None:
    try:
        elements = byte_elements.read_elements(memoryview(raw), count, "x")
    except WrongRequest:
        return
    assert byte_elements.write_elements(elements) == raw
    assert len(elements) == count


def test_byte_elements_that_end_early_or_late_say_so() -> None:
    for raw, count, words in (
        (b"\x02\x00\x00", 1, "its length alone takes 4"),
        (b"\x02\x00\x00\x00a", 1, "states a length of 2 bytes and 1 are left"),
        (b"\xff\xff\xff\xff", 1, "4294967295"),
        (b"\x00\x00\x00\x00", 2, "its shape makes 2"),
        (b"\x00\x00\x00\x00!", 1, "1 bytes more"),
    ):
        with pytest.raises(WrongRequest, match=words):
            byte_elements.read_elements(memoryview(raw), count, "x")


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("UINT8", 256),
        ("INT8", -129),
        ("INT64", 2**63),
        ("UINT64", -1),
        ("FP16", 70000.0),
        ("FP32", 1e39),
        ("FP32", 10**400),
        ("INT32", 1.0),
        ("INT32", True),
        ("FP32", True),
        ("BOOL", 1),
        ("FP32", "1"),
        ("FP32", None),
    ],
)
def test_a_value_that_its_type_cannot_hold_is_refused_and_not_rounded(datatype: str, value: Any) -> None:
    with pytest.raises(WrongRequest, match="input 'x'"):
        json_data.read_array([value], datatype, (1,), "x")


def test_infinity_is_no_number_too_large() -> None:
    data = json_data.read_document(b"[Infinity, -Infinity, NaN, 1e30]")
    np.testing.assert_array_equal(
        json_data.read_array(data, "FP32", (4,), "x"), np.array([np.inf, -np.inf, np.nan, 1e30], np.float32)
    )


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4)
    ),
    max_leaves=12,
)
FIELD_VALUES = {
    "name": st.sampled_from(["images", "picture", "ids"]) | JSON_VALUES,
    "datatype": st.sampled_from([*NUMPY, "BYTES", "BF16"]) | JSON_VALUES,
    "shape": st.lists(st.integers(-1, 4), max_size=5) | st.just([1, 96, 96, 3]) | JSON_VALUES,
    "data": st.lists(st.integers(0, 255), max_size=6) | JSON_VALUES,
    "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 40)}) | JSON_VALUES,
}
REQUESTS = st.fixed_dictionaries(
    {"inputs": st.lists(st.fixed_dictionaries({}, optional=FIELD_VALUES), max_size=4) | JSON_VALUES},
    optional={
        "id": JSON_VALUES,
        "outputs": st.lists(
            st.fixed_dictionaries(
                {}, optional={"name": FIELD_VALUES["name"], "parameters": FIELD_VALUES["parameters"]}
            ),
            max_size=3,
        )
        | JSON_VALUES,
        "parameters": st.dictionaries(
            st.sampled_from(
                ["timeout", "priority", "sequence_id", "sequence_end", "binary_data_output", "other"]
            ),
            JSON_VALUES,
        )
        | JSON_VALUES,
    },
)


def ask(body: bytes, header: str | None) -> None:
    """Read a body as the route does, up to what would be run; only problems may come of it."""
    for manifest in (TINY, SEVERAL):
        try:
            json_bytes = header_length(header, len(body))
            request = read_raw_request(body, manifest) if json_bytes == 0 else read_request(body, json_bytes)
            if encoded_pictures(request, manifest, max_pictures=4) is None:
                inputs = graph_inputs(request, manifest)
                for spec in manifest.inputs:
                    assert inputs[spec.name].dtype == spec.dtype
                    assert inputs[spec.name].shape[1:] == tuple(
                        given if size < 0 else size
                        for size, given in zip(spec.shape[1:], inputs[spec.name].shape[1:], strict=True)
                    )
        except Problem as problem:
            refusal = problem
        else:
            continue
        assert 400 <= refusal.status < 500
        orjson.dumps(refusal.detail)  # can be said to the caller


@settings(max_examples=300)
@given(st.binary(max_size=60), st.none() | st.integers(-1, 70).map(str) | st.text(max_size=5))
def test_any_bytes_are_a_request_or_refused(body: bytes, header: str | None) -> None:
    ask(body, header)


@settings(max_examples=300)
@given(REQUESTS, st.binary(max_size=45), st.booleans())
def test_any_json_with_any_tail_is_a_request_or_refused(document: Any, tail: bytes, framed: bool) -> None:
    text = json.dumps(document).encode()
    ask(text + tail if framed else text, str(len(text)) if framed else None)


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate"]))
def test_what_is_compressed_comes_back(body: bytes, coding: str) -> None:
    packed = encoding.compress(body, coding)
    assert encoding.decompress(packed, coding, len(body)) == body
    if body:
        with pytest.raises(Problem) as caught:
            encoding.decompress(packed, coding, len(body) - 1)
        assert caught.value.status == 413


@given(st.binary(max_size=60), st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_as_a_compressed_stream_are_one_or_refused(body: bytes, coding: str) -> None:
    try:
        plain = encoding.decompress(body, coding, 1000)
    except (WrongRequest, PayloadTooLarge):
        return
    assert len(plain) <= 1000


@given(st.text(max_size=30))
def test_any_accept_encoding_is_understood(value: str) -> None:
    assert encoding.accepted(value) in (None, "gzip", "deflate")


# Answers


def answer(tensors: dict[str, NDArray[Any]], **request: Any) -> tuple[dict[str, Any], bytes]:
    body = write_answer(InferRequest(inputs=(), **request), "tiny", 7, tensors)
    length = len(body.content) if body.json_bytes is None else body.json_bytes
    return json.loads(body.content[:length]), body.content[length:]


def test_byte_outputs_are_text_in_json_and_framed_in_binary() -> None:
    labels = np.array([["steel", "é".encode()], [b"", b"a"]], np.object_)
    labels[0, 0] = b"steel"
    document, tail = answer({"labels": labels})
    assert document["outputs"] == [
        {"name": "labels", "datatype": "BYTES", "shape": [2, 2], "data": ["steel", "é", "", "a"]}
    ]
    assert tail == b""
    document, tail = answer({"labels": labels}, binary_outputs=True)
    assert document["outputs"][0]["parameters"] == {"binary_data_size": len(tail)}
    assert triton_utils.deserialize_bytes_tensor(tail).tolist() == labels.reshape(-1).tolist()
    with pytest.raises(WrongRequest, match="binary_data true"):
        answer({"labels": np.array([b"\xff"], np.object_)})


def test_arrays_that_lie_otherwise_in_memory_are_written_row_by_row() -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    document, tail = answer({"x": array}, binary_outputs=True)
    assert document["outputs"][0]["shape"] == [2, 2, 3]
    np.testing.assert_array_equal(np.frombuffer(tail, np.float32).reshape(2, 2, 3), array)
    document, _ = answer({"x": array}, outputs=(RequestedOutput("x", binary=False),))
    assert document["outputs"][0]["data"] == array.reshape(-1).tolist()


@given(st.lists(st.lists(st.integers(1, 9), max_size=4), min_size=1, max_size=5))
def test_rows_of_different_lengths_are_filled_with_zeros(rows: list[list[int]]) -> None:
    joined = join_rows(
        [{"scores": np.array([row], np.int64).reshape(1, -1), "count": np.array([len(row)])} for row in rows]
    )
    longest = max(map(len, rows))
    assert joined["scores"].tolist() == [row + [0] * (longest - len(row)) for row in rows]
    assert joined["count"].tolist() == [len(row) for row in rows]


# Raw bodies


def test_a_raw_body_needs_one_input_and_one_free_size() -> None:
    with pytest.raises(WrongRequest, match="has 4; send the JSON object"):
        read_raw_request(b"1234", SEVERAL)
    with pytest.raises(WrongRequest, match=r"do not make a shape \[-1,-1\]"):
        read_raw_request(b"1234", manifest_of(TensorSpec(name="x", dtype="uint8", shape=[-1, -1])))
    request = read_raw_request(
        bytes(48), manifest_of(TensorSpec(name="x", dtype="float32", shape=[2, -1, 3]))
    )
    assert request.inputs[0].shape == (2, 2, 3)
    assert math.prod(request.inputs[0].shape) * 4 == 48
    assert request.binary_outputs
