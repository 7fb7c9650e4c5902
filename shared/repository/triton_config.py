"""Triton's model configuration (config.pbtxt), so that Triton serves the same folder unchanged.

The text format of protobuf, written by hand: images without torch carry no protobuf either. Fields and
their meaning: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

import json
from collections.abc import Iterable

from shared.repository.manifest import MODEL_FILE, Manifest, TensorSpec

MAX_BATCH_SIZE = 16
MAX_QUEUE_DELAY_US = 2000
# As the detector's own defaults: streams at once, and how long one may be silent.
MAX_SEQUENCES = 64
MAX_SEQUENCE_IDLE_US = 60_000_000
_TYPES = {
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "int64": "TYPE_INT64",
}


def _tensor(field: str, spec: TensorSpec) -> str:
    # The first dimension is the batch, which Triton adds itself when max_batch_size is above zero.
    dims = ", ".join(str(size) for size in spec.shape[1:]) or "1"
    # A tensor of shape [batch] has no dims left, and Triton wants at least one: a reshape drops it again.
    reshape = "" if spec.shape[1:] else "\n    reshape: { shape: [ ] }"
    return (
        f"{field} [\n  {{\n"
        f"    name: {json.dumps(spec.name)}\n"
        f"    data_type: {_TYPES[spec.dtype]}\n"
        f"    dims: [ {dims} ]{reshape}\n"
        "  }\n]\n"
    )


def _same_tensors(one: Manifest, other: Manifest) -> bool:
    return (one.inputs, one.outputs, one.states) == (other.inputs, other.outputs, other.states)


def _batching(manifest: Manifest) -> str:
    """How requests come together: any of them, or for a stream model one window of each of its sequences.

    Triton carries a sequence's states itself, from zeros on, so that clients neither send nor get them. With
    `oldest` a batch holds only sequences whose window is there; `direct` would give every sequence a place in
    each batch, and the network would compute the empty ones too.
    """
    if not manifest.states:
        return f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US} }}\n"
    inputs = {spec.name: spec for spec in manifest.inputs}
    states = "".join(_state(inputs[state.input], state.output) for state in manifest.states)
    return (
        "sequence_batching {\n"
        f"  max_sequence_idle_microseconds: {MAX_SEQUENCE_IDLE_US}\n"
        "  oldest {\n"
        f"    max_candidate_sequences: {MAX_SEQUENCES}\n"
        f"    max_queue_delay_microseconds: {MAX_QUEUE_DELAY_US}\n"
        "  }\n"
        f"{states}"
        "}\n"
    )


def _state(spec: TensorSpec, output: str) -> str:
    dims = ", ".join(str(size) for size in spec.shape[1:])
    return (
        "  state [\n    {\n"
        f"      input_name: {json.dumps(spec.name)}\n"
        f"      output_name: {json.dumps(output)}\n"
        f"      data_type: {_TYPES[spec.dtype]}\n"
        f"      dims: [ {dims} ]\n"
        "      initial_state {\n"
        f"        name: {json.dumps(f'{spec.name} at first')}\n"
        f"        data_type: {_TYPES[spec.dtype]}\n"
        f"        dims: [ {dims} ]\n"
        "        zero_data: true\n"
        "      }\n"
        "    }\n  ]\n"
    )


def model_config(served: Manifest, others: Iterable[Manifest] = (), *, available: bool = True) -> str:
    """Return config.pbtxt for a model whose live version is `served`.

    `others` are further versions that aliases name. Triton has one configuration for all versions of a
    model, so those with other tensors are left out, which a comment says. With `available` false no
    alias exists: the configuration then names no version and Triton keeps the model unloaded.
    """
    versions = [served.version] if available else []
    left_out: list[int] = []
    for other in others:
        (versions if _same_tensors(served, other) else left_out).append(other.version)
    numbers = ", ".join(str(version) for version in sorted(set(versions)))
    carried = {name for state in served.states for name in (state.input, state.output)}
    comments = [f"# version {version}: left out, its tensors differ\n" for version in sorted(set(left_out))]
    return "".join(
        [
            "# Written by Sightline from aliases.json and the manifests; changes by hand are overwritten.\n",
            f"name: {json.dumps(served.name)}\n",
            'platform: "onnxruntime_onnx"\n',
            'backend: "onnxruntime"\n',
            f"default_model_filename: {json.dumps(MODEL_FILE)}\n",
            f"max_batch_size: {MAX_BATCH_SIZE}\n",
            *(_tensor("input", spec) for spec in served.inputs if spec.name not in carried),
            *(_tensor("output", spec) for spec in served.outputs if spec.name not in carried),
            _batching(served),
            *comments,
            f"version_policy: {{ specific: {{ versions: [ {numbers} ] }} }}\n",
        ]
    )
