"""Against protobuf's own parser and Triton's published schema, which tritonclient ships compiled."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format

from shared.repository.triton_config import model_config
from shared.repository.triton_config_reader import ConfigSyntaxError, parse_model_config, read_model_config
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.fixtures.tiny_stream_model import tiny_stream_repository


def _model_config_message() -> Any:
    """Load Triton's message from its file: importing the package around it wants grpc, which is not here."""
    (folder,) = importlib.util.find_spec("tritonclient").submodule_search_locations  # type: ignore[union-attr]
    spec = importlib.util.spec_from_file_location(
        "model_config_pb2", Path(folder, "grpc/model_config_pb2.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


ModelConfig = _model_config_message()

EVERYTHING = r"""
# max_batch_size: 99 { [ "
name: 'per' "son"  # adjacent strings are one
platform: "onnxruntime_onnx", backend: "onnxruntime";
max_batch_size: 0x10
input [
  { name: "images" data_type: TYPE_UINT8 format: FORMAT_NHWC dims: [ 384, 640, 3 ] },
  < name: "other\t\"quoted\" \303\244 ä" data_type: TYPE_FP32 dims: 4 dims: -1 optional: true >
]
output { name: "scores" data_type: TYPE_FP32 dims: [100] reshape { shape: [ ] } }
output: { name: "labels", data_type: TYPE_INT64, dims: [ 017 ] }
version_policy: { specific { versions: [ 3, 5 ] } }
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 2000
  preserve_ordering: false
  priority_levels: 3
  default_queue_policy { timeout_action: DELAY max_queue_size: 7 }
  priority_queue_policy { key: 1 value { max_queue_size: 2 } }
}
optimization { cuda { graphs: true graph_spec { batch_size: 4 } } }
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
parameters: [ { key: "b" value { string_value: "" } } ]
model_warmup { name: "w" batch_size: 1 inputs { key: "images" value { dims: [1] zero_data: true } } }
"""


def by_protobuf(text: str) -> dict[str, Any]:
    message = text_format.Parse(text, ModelConfig())
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def numbers_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: numbers_as_text(one) for name, one in value.items()}
    if isinstance(value, list):
        return [numbers_as_text(one) for one in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def without_empty(value: Any) -> Any:
    """Leave out what protobuf's JSON leaves out: false, empty strings and empty lists."""
    if isinstance(value, dict):
        kept = {name: without_empty(one) for name, one in value.items()}
        return {name: one for name, one in kept.items() if one is not False and one != "" and one != []}
    if isinstance(value, list):
        return [without_empty(one) for one in value]
    return value


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return without_empty(numbers_as_text(ours)) == without_empty(numbers_as_text(theirs))


def test_everything_that_the_format_allows_reads_as_protobuf_reads_it() -> None:
    ours, theirs = parse_model_config(EVERYTHING), by_protobuf(EVERYTHING)
    assert without_empty(numbers_as_text(ours)) == without_empty(numbers_as_text(theirs))


def test_what_the_repository_writes_reads_as_protobuf_reads_it(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    path = repository.root / "tiny" / "config.pbtxt"
    ours = read_model_config(path)
    assert same(ours, by_protobuf(path.read_text()))
    assert ours["max_batch_size"] == 16
    assert ours["dynamic_batching"] == {"max_queue_delay_microseconds": 2000}
    assert [tensor["name"] for tensor in ours["output"]] == ["boxes", "scores", "labels"]
    assert model_config(repository.manifest("tiny", 1)) == path.read_text()


def test_the_sequences_of_a_stream_model_read_as_protobuf_reads_them(tmp_path: Path) -> None:
    path = tiny_stream_repository(tmp_path).root / "fading" / "config.pbtxt"
    ours = read_model_config(path)
    assert same(ours, by_protobuf(path.read_text()))
    assert ours["max_batch_size"] == 16
    assert len(ours["sequence_batching"]["state"]) == 8
    assert ours["sequence_batching"]["state"][0] == {
        "input_name": "state_h0",
        "output_name": "next_h0",
        "data_type": "TYPE_FP32",
        "dims": [1, 32, 48],
        "initial_state": [
            {"name": "state_h0 at first", "data_type": "TYPE_FP32", "dims": [1, 32, 48], "zero_data": True}
        ],
    }


def test_a_number_in_a_comment_a_string_or_another_block_is_not_mistaken_for_the_field() -> None:
    config = parse_model_config(
        '# max_batch_size: 1\nname: "max_batch_size: 2"\n'
        "sequence_batching { oldest { max_queue_delay_microseconds: 3 } }\n"
    )
    assert config == {
        "name": "max_batch_size: 2",
        "sequence_batching": {"oldest": {"max_queue_delay_microseconds": 3}},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("max_batch_size: 1\nmax_batch_size: 2", "line 2: max_batch_size stands twice"),
        ("max_batch_size 1", "line 1: expected ':'"),
        ("max_batch_size:", "something is missing"),
        ("dynamic_batching {\n", "line 2: expected '}'"),
        ("dynamic_batching { >", "expected the name of a field"),
        ("dims: [ 1 2 ]", "expected ',' or ']'"),
        ("dims: [ 1, ]", "expected a value"),
        ('name: "open\n"', "cannot be read from"),
        ("max_batch_size: [ 1, 2 ]", "wants one value and has 2"),
        ("max_batch_size: 09", "'09' is no number"),
        ('name: "\\q"', "unknown escape"),
        ("parameters { value {} }", "wants { key"),
        ("a { " * 200 + "} " * 200, "nested more than"),
        ("}", "expected the name of a field"),
    ],
)
def test_what_is_no_configuration_is_refused_and_the_line_named(text: str, words: str) -> None:
    with pytest.raises(ConfigSyntaxError) as refusal:
        parse_model_config(text)
    assert words in str(refusal.value)


def test_the_message_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text("name")
    with pytest.raises(ConfigSyntaxError, match=r"config\.pbtxt: line 1"):
        read_model_config(path)
    path.write_bytes(b"name: '\xff'")
    with pytest.raises(ConfigSyntaxError, match="not UTF-8"):
        read_model_config(path)
