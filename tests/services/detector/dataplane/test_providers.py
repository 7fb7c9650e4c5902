"""What ONNX Runtime is told, for providers that this machine need not have."""

from pathlib import Path

import onnxruntime
import pytest

from services.detector.dataplane.providers import SessionOptions, providers, session_options
from shared.repository.manifest import TensorSpec

INPUTS = [TensorSpec(name="images", dtype="uint8", shape=[-1, 96, 64, 3])]


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: everything)


@pytest.mark.usefixtures("gpu_build")
@pytest.mark.parametrize("graphs", [False, True])
def test_cuda_is_asked_for_before_the_cpu_and_captures_graphs_only_when_told(graphs: bool) -> None:
    first, second = providers(SessionOptions("cuda", cuda_graphs=graphs), INPUTS, 8)
    assert first[0] == "CUDAExecutionProvider"
    assert first[1]["enable_cuda_graph"] == ("1" if graphs else "0")
    assert second == ("CPUExecutionProvider", {})


@pytest.mark.usefixtures("gpu_build")
def test_tensorrt_knows_the_range_of_batches_and_where_its_engines_lie(tmp_path: Path) -> None:
    options = SessionOptions("tensorrt", cuda_graphs=True, tensorrt_cache=tmp_path)
    found = providers(options, INPUTS, 8)
    assert [name for name, _ in found] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    assert found[0][1] == {
        "trt_profile_min_shapes": "images:1x96x64x3",
        "trt_profile_opt_shapes": "images:8x96x64x3",
        "trt_profile_max_shapes": "images:8x96x64x3",
        "trt_cuda_graph_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(tmp_path),
    }
    assert found[1][1]["enable_cuda_graph"] == "0"  # the graph is TensorRT's to capture


def test_a_build_without_the_provider_leaves_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for name in ("cuda", "tensorrt"):
        options = SessionOptions(name)  # type: ignore[arg-type]
        assert providers(options, INPUTS, 1) == [("CPUExecutionProvider", {})]
        assert options.asked != "CPUExecutionProvider"


def test_branches_run_side_by_side_only_with_threads_for_them() -> None:
    assert session_options(SessionOptions()).execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    parallel = session_options(SessionOptions(inter_op_threads=2))
    assert parallel.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert parallel.inter_op_num_threads == 2
