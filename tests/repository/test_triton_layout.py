"""The repository folder is one that Triton would load: layout, names, and tensors as in the ONNX files.

Triton's rules: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md
and model_configuration.md beside it. The schema is the compiled message that tritonclient ships.
"""

import importlib.util
from pathlib import Path
from typing import Any

import onnx
import pytest
import tritonclient
from google.protobuf import json_format, text_format

from shared.repository import ModelRepository
from shared.repository.triton_config_reader import read_model_config
from tests.fixtures.several_tensors_model import add_several_tensors
from tests.fixtures.tiny_detection_model import TinyModel, add_tiny_version, tiny_repository

ONNX_OF_TRITON = {
    "TYPE_UINT8": onnx.TensorProto.UINT8,
    "TYPE_INT64": onnx.TensorProto.INT64,
    "TYPE_FP16": onnx.TensorProto.FLOAT16,
    "TYPE_FP32": onnx.TensorProto.FLOAT,
}


def shipped_schema() -> Any:
    """The module tritonclient.grpc.model_config_pb2, which needs no grpc although its package does."""
    path = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCHEMA = shipped_schema()


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    """Three models; of `tiny`, versions that came, went live and were removed or rolled back."""
    repository = tiny_repository(tmp_path, versions=3)
    repository.rollback("tiny")
    repository.remove("tiny", 1)
    add_tiny_version(repository, "other.size-2", TinyModel(height=64, width=128))
    add_several_tensors(repository)
    return repository


def config_of(folder: Path) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), SCHEMA.ModelConfig())


def graph_of(repository: ModelRepository, name: str, version: int) -> onnx.GraphProto:
    return onnx.load(repository.path(name, version) / "model.onnx").graph


def test_the_schema_of_the_other_tests_is_the_shipped_one() -> None:
    committed = Path(__file__).with_name("triton_model_config.binpb").read_bytes()
    assert SCHEMA.DESCRIPTOR.serialized_pb == committed


def test_every_entry_of_the_root_is_a_model_with_its_configuration(repository: ModelRepository) -> None:
    folders = sorted(repository.root.iterdir())
    assert [folder.name for folder in folders] == ["other.size-2", "several", "tiny"]
    for folder in folders:
        config = config_of(folder)
        assert config.name == folder.name  # Triton refuses a configuration of another name
        assert config.backend == "onnxruntime"


def test_every_version_triton_would_load_is_there_with_its_file(repository: ModelRepository) -> None:
    for folder in repository.root.iterdir():
        config = config_of(folder)
        # Folders whose names are numbers not beginning with zero are versions to Triton; others it ignores.
        numbered = [int(path.name) for path in folder.iterdir() if path.is_dir() and path.name.isdecimal()]
        assert numbered
        versions = list(config.version_policy.specific.versions)
        assert versions == sorted(set(repository.aliases(folder.name).values()))
        assert set(versions) <= set(numbered)
        for version in versions:
            assert (folder / str(version) / config.default_model_filename).is_file()


def test_names_types_and_dims_are_those_of_every_onnx_file_it_serves(repository: ModelRepository) -> None:
    for folder in repository.root.iterdir():
        config = config_of(folder)
        for version in config.version_policy.specific.versions:
            graph = graph_of(repository, folder.name, version)
            for configured, values in ((config.input, graph.input), (config.output, graph.output)):
                assert [tensor.name for tensor in configured] == [value.name for value in values]
                for tensor, value in zip(configured, values, strict=True):
                    kind = value.type.tensor_type
                    assert ONNX_OF_TRITON[SCHEMA.DataType.Name(tensor.data_type)] == kind.elem_type
                    batch, *sizes = kind.shape.dim
                    assert batch.dim_param  # with max_batch_size above 0 the first dimension has to be free
                    inner = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
                    assert list(inner) == [size.dim_value if size.dim_value else -1 for size in sizes]
                    assert tensor.dims  # Triton wants one at least
        assert config.max_batch_size == 16
        assert config.HasField("dynamic_batching")


def test_what_the_configuration_endpoint_reads_is_what_the_schema_reads(repository: ModelRepository) -> None:
    for folder in repository.root.iterdir():
        as_json = read_model_config(folder / "config.pbtxt")
        assert json_format.ParseDict(as_json, SCHEMA.ModelConfig()) == config_of(folder)


def test_a_model_without_a_live_version_is_one_that_triton_leaves_unloaded(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, promote=False)
    config = config_of(repository.root / "tiny")
    assert config.version_policy.HasField("specific")
    assert list(config.version_policy.specific.versions) == []
