"""What ONNX Runtime is told about threads, memory and devices, by execution provider.

CUDA: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
TensorRT: https://onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from shared.repository.manifest import TensorSpec

ProviderName = Literal["cpu", "cuda", "tensorrt"]
ProviderOptions = dict[str, str]

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"

# What is asked for, then what takes the operators that it does not have.
_PROVIDERS = {"cpu": (CPU,), "cuda": (CUDA, CPU), "tensorrt": (TENSORRT, CUDA, CPU)}


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a session runs. Threads matter on the CPU; `cuda_graphs` and `tensorrt_cache` on a GPU."""

    provider: ProviderName = "cpu"
    intra_op_threads: int = 1
    inter_op_threads: int = 1
    cuda_graphs: bool = False
    tensorrt_cache: Path | None = None  # a folder, where engines are kept between starts

    @property
    def asked(self) -> str:
        """ONNX Runtime's name of the provider that was asked for."""
        return _PROVIDERS[self.provider][0]


def session_options(options: SessionOptions) -> ort.SessionOptions:
    """Return ONNX Runtime's options of a session."""
    made = ort.SessionOptions()
    made.intra_op_num_threads = options.intra_op_threads
    made.inter_op_num_threads = options.inter_op_threads
    if options.inter_op_threads > 1:
        made.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    # Spinning threads cost a quarter of the CPU and a third of the throughput (docs/benchmarks.md).
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    made.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # A pattern keeps one block for all tensors of each run side by side: memory that buys no time here.
    made.enable_mem_pattern = False
    return made


def providers(
    options: SessionOptions, inputs: Sequence[TensorSpec], max_batch: int
) -> list[tuple[str, ProviderOptions]]:
    """Return the providers that this build has, of those to ask for, with their options.

    Naming one that the build lacks only makes ONNX Runtime warn; what is missing shows in Session.fell_back.
    """
    made: dict[str, ProviderOptions] = {
        TENSORRT: _tensorrt(options, inputs, max_batch),
        CUDA: {
            # By need and not in powers of two: several versions share the device's memory.
            "arena_extend_strategy": "kSameAsRequested",
            # Captured by whichever provider runs the graph as a whole.
            "enable_cuda_graph": _flag(options.cuda_graphs and options.provider == "cuda"),
        },
        CPU: {},
    }
    available = ort.get_available_providers()
    names = [name for name in _PROVIDERS[options.provider] if name in available] or [CPU]
    return [(name, made[name]) for name in names]


def _tensorrt(options: SessionOptions, inputs: Sequence[TensorSpec], max_batch: int) -> ProviderOptions:
    def shapes(batch: int) -> str:
        # An engine is built for a range of shapes: without one it is built again for each new batch size.
        return ",".join(
            f"{spec.name}:{'x'.join(map(str, (batch, *(max(1, size) for size in spec.shape[1:]))))}"
            for spec in inputs
        )

    made = {
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": shapes(max_batch),
        "trt_profile_max_shapes": shapes(max_batch),
        "trt_cuda_graph_enable": _flag(options.cuda_graphs),
        "trt_engine_cache_enable": _flag(options.tensorrt_cache is not None),
    }
    if options.tensorrt_cache is not None:
        made["trt_engine_cache_path"] = str(options.tensorrt_cache)
    return made


def _flag(value: bool) -> str:
    return "1" if value else "0"
