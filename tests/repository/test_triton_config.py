"""config.pbtxt parses against Triton's own schema and says what the ONNX file and the aliases say.

triton_model_config.binpb is the serialised descriptor of Triton's model_config.proto as tritonclient 2.73.0
ships it (its licence lies beside it).
"""

from pathlib import Path
from typing import Any

import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from shared.repository import ModelRepository
from shared.repository.manifest import FileEntry, TensorSpec, complete
from shared.repository.triton_config import model_config
from tests.fixtures.tiny_detection_model import TinyModel, add_tiny_version, tiny_manifest, tiny_repository
from tests.fixtures.tiny_stream_model import (
    TinyStreamModel,
    add_tiny_stream_version,
    tiny_stream_repository,
)

DESCRIPTOR = Path(__file__).with_name("triton_model_config.binpb")
ONNX_NAMES = {"TYPE_UINT8": "UINT8", "TYPE_FP32": "FLOAT", "TYPE_INT64": "INT64"}


def parse(text: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(DESCRIPTOR.read_bytes()))
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
    return text_format.Parse(text, message)


def read_config(repository: ModelRepository) -> Any:
    return parse((repository.root / "tiny" / "config.pbtxt").read_text())


def data_type(tensor: Any) -> str:
    return tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name


def test_tensors_are_those_of_the_onnx_file(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    config = read_config(repository)
    graph = onnx.load(repository.path("tiny", 1) / "model.onnx").graph
    for configured, values in ((config.input, graph.input), (config.output, graph.output)):
        assert [tensor.name for tensor in configured] == [value.name for value in values]
        for tensor, value in zip(configured, values, strict=True):
            onnx_type = value.type.tensor_type
            assert list(tensor.dims) == [dim.dim_value for dim in onnx_type.shape.dim[1:]]
            assert ONNX_NAMES[data_type(tensor)] == onnx.TensorProto.DataType.Name(onnx_type.elem_type)


def test_the_configuration_names_backend_batching_and_file(tmp_path: Path) -> None:
    config = read_config(tiny_repository(tmp_path))
    assert (config.name, config.platform, config.backend) == ("tiny", "onnxruntime_onnx", "onnxruntime")
    assert config.default_model_filename == "model.onnx"
    assert config.max_batch_size > 1
    assert config.HasField("dynamic_batching")


def test_the_version_policy_follows_every_change_of_an_alias(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    add_tiny_version(repository, promote=False)
    assert list(read_config(repository).version_policy.specific.versions) == []
    assert read_config(repository).version_policy.HasField("specific")
    repository.promote("tiny", 1)
    assert list(read_config(repository).version_policy.specific.versions) == [1]
    for _ in range(2):
        add_tiny_version(repository, promote=True)
    assert list(read_config(repository).version_policy.specific.versions) == [2, 3]
    repository.set_alias("tiny", "canary", 1)
    assert list(read_config(repository).version_policy.specific.versions) == [1, 2, 3]
    repository.set_alias("tiny", "previous", None)
    assert list(read_config(repository).version_policy.specific.versions) == [1, 3]


def test_a_version_with_other_tensors_is_left_out_and_named(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    add_tiny_version(repository, model=TinyModel(height=64, width=64))
    config = read_config(repository)
    assert list(config.version_policy.specific.versions) == [2]
    assert list(config.input[0].dims) == [64, 64, 3]
    assert "# version 1: left out" in (repository.root / "tiny" / "config.pbtxt").read_text()
    repository.rollback("tiny")
    assert list(read_config(repository).input[0].dims) == [96, 96, 3]


def test_an_output_that_is_one_number_per_picture_is_reshaped(tmp_path: Path) -> None:
    draft = tiny_manifest()
    outputs = [*draft.outputs, TensorSpec(name="num_detections", dtype="int64", shape=[-1])]
    files = {"model.onnx": FileEntry(sha256="0" * 64, bytes=0)}
    manifest = complete(draft.model_copy(update={"outputs": outputs}), name="tiny", version=1, files=files)
    tensor = parse(model_config(manifest)).output[3]
    assert list(tensor.dims) == [1]
    assert tensor.HasField("reshape")
    assert list(tensor.reshape.shape) == []


def test_a_stream_model_is_served_by_sequences_whose_states_stay_in_triton(tmp_path: Path) -> None:
    repository = tiny_stream_repository(tmp_path)
    config = parse((repository.root / "fading" / "config.pbtxt").read_text())
    assert not config.HasField("dynamic_batching")  # Triton allows one way of batching only
    assert config.max_batch_size > 1
    batching = config.sequence_batching
    assert batching.WhichOneof("strategy_choice") == "oldest"
    assert batching.oldest.max_candidate_sequences >= config.max_batch_size
    assert batching.max_sequence_idle_microseconds == 60_000_000
    assert [tensor.name for tensor in config.input] == ["histograms"]
    assert [tensor.name for tensor in config.output] == ["boxes", "scores", "labels", "class_probabilities"]

    graph = onnx.load(repository.path("fading", 1) / "model.onnx").graph
    inputs = {value.name: value.type.tensor_type for value in graph.input}
    assert {state.input_name for state in batching.state} == inputs.keys() - {"histograms"}
    assert {state.output_name for state in batching.state} <= {value.name for value in graph.output}
    for state in batching.state:
        assert state.output_name == state.input_name.replace("state_", "next_")
        [first] = state.initial_state
        assert first.zero_data
        for described in (state, first):
            dims = [dim.dim_value for dim in inputs[state.input_name].shape.dim[1:]]
            assert list(described.dims) == dims
            assert ONNX_NAMES[data_type(described)] == "FLOAT"


def test_versions_that_carry_other_states_are_not_served_together(tmp_path: Path) -> None:
    repository = tiny_stream_repository(tmp_path)
    add_tiny_stream_version(repository, model=TinyStreamModel(sensor_height=64))
    text = (repository.root / "fading" / "config.pbtxt").read_text()
    assert list(parse(text).version_policy.specific.versions) == [2]
    assert "# version 1: left out" in text


def test_the_schema_refuses_what_it_does_not_know() -> None:
    with pytest.raises(text_format.ParseError):
        parse("no_such_field: 1")
