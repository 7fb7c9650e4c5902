"""Runs on a device between buffers that stay there, one set for each shape of the inputs (IO binding).

https://onnxruntime.ai/docs/api/python/api_summary.html#iobinding; a CUDA graph is captured for each set, told
apart by its number: https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html, "Using CUDA
Graphs". It is replayed at the addresses at which it was captured, which is why buffers are never replaced.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

_NO_GRAPH = "-1"


@dataclass(frozen=True, slots=True)
class _Buffers:
    binding: ort.IOBinding
    inputs: dict[str, ort.OrtValue]
    options: ort.RunOptions


class BoundRuns:
    """Runs one session on `device` ("cuda", or "cpu" in tests) from any thread, one run at a time.

    With `graphs` each shape is run as a CUDA graph; the first run of a shape captures it, so every batch size
    has to be warmed up.
    """

    def __init__(self, session: ort.InferenceSession, *, device: str, graphs: bool) -> None:
        self._session = session
        self._device = device
        self._graphs = graphs
        self._outputs = session.get_outputs()
        self._buffers: dict[tuple[tuple[str, tuple[int, ...]], ...], _Buffers] = {}
        self._turn = threading.Lock()  # a shape has one set of buffers, and the device computes one run

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return every output by name for `inputs` by name, each with the batch as first dimension."""
        shapes = tuple(sorted((name, array.shape) for name, array in inputs.items()))
        with self._turn:
            buffers = self._buffers.get(shapes)
            if buffers is None:
                buffers = self._buffers[shapes] = self._bind(inputs, number=len(self._buffers) + 1)
            for name, array in inputs.items():
                buffers.inputs[name].update_inplace(np.ascontiguousarray(array))
            self._session.run_with_iobinding(buffers.binding, buffers.options)
            results = buffers.binding.copy_outputs_to_cpu()
        return {output.name: result for output, result in zip(self._outputs, results, strict=True)}

    def _bind(self, inputs: Mapping[str, NDArray[Any]], number: int) -> _Buffers:
        binding = self._session.io_binding()
        values = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, self._device, 0)
            for name, array in inputs.items()
        }
        for name, value in values.items():
            binding.bind_ortvalue_input(name, value)
        rows = len(next(iter(inputs.values())))
        for output in self._outputs:
            sizes = [rows, *output.shape[1:]]
            if all(isinstance(size, int) for size in sizes):
                value = ort.OrtValue.ortvalue_from_shape_and_type(
                    sizes, _NUMPY_TYPES[output.type], self._device, 0
                )
                binding.bind_ortvalue_output(output.name, value)
            else:  # its size is known only after the run
                binding.bind_output(output.name, self._device)
        options = ort.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(number) if self._graphs else _NO_GRAPH)
        return _Buffers(binding, values, options)


_NUMPY_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(int64)": np.int64,
}
