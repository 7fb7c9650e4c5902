"""From a body to what it asks for: a JSON object, and behind it the tensors that were sent as binary data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.detector.oip.json_data import read_document
from services.detector.oip.problems import WrongRequest

HEADER_LENGTH = "Inference-Header-Content-Length"

_MAX_RANK = 16
_LARGEST = 2**63 - 1
_MAX_SEQUENCE_ID = 128  # characters, as in Triton
_SHARED_MEMORY = "shared_memory_region"


@dataclass(frozen=True, slots=True)
class TensorInput:
    """One input as it was sent: `data` as JSON or, where that is None, `raw` bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any
    raw: memoryview | None


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    name: str
    binary: bool


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a request's turn is to come: None for the server's own deadline, 0 for the usual priority."""

    timeout_s: float | None = None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SequencePlace:
    """Where a request stands in a sequence; `id` is None where it names none, an integer or a string."""

    id: int | str | None = None
    start: bool = False
    end: bool = False

    def __bool__(self) -> bool:
        return self.id is not None or self.start or self.end


@dataclass(frozen=True, slots=True)
class InferRequest:
    """`outputs` is None where all are wanted; `parameters` are those the protocol leaves to the model."""

    inputs: tuple[TensorInput, ...]
    id: str | None = None
    outputs: tuple[RequestedOutput, ...] | None = None
    binary_outputs: bool = False
    schedule: Schedule = Schedule()
    sequence: SequencePlace = SequencePlace()
    parameters: Mapping[str, Any] = field(default_factory=dict)


def header_length(value: str | None, body_bytes: int) -> int | None:
    """Return what the header Inference-Header-Content-Length says of a body; None where it is not there.

    Raises WrongRequest for what is no number from 0 to the size of the body, decompressed.
    """
    if value is None:
        return None
    text = value.strip()
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and int(text) <= body_bytes):
        raise WrongRequest(
            f"{HEADER_LENGTH} is {value[:40]!r} and the body has {body_bytes} bytes; it states how many of "
            "them, once decompressed, are the JSON object"
        )
    return int(text)


def read_request(body: bytes, json_bytes: int | None) -> InferRequest:
    """Return what `body` asks for; its first `json_bytes` bytes are the JSON object, None for all.

    Raises WrongRequest, also where bytes are left over or missing.
    """
    view = memoryview(body)
    tail = view[len(body) if json_bytes is None else json_bytes :]
    document = read_document(body if json_bytes is None else view[:json_bytes])
    if not isinstance(document, dict):
        raise WrongRequest(f"the request has to be a JSON object, not {type(document).__name__}")
    inputs, used = _inputs(document.get("inputs"), tail, framed=json_bytes is not None)
    if used != len(tail):
        raise WrongRequest(
            f"unexpected additional input data: {len(tail) - used} bytes are left behind the tensors, which "
            f"state {used} bytes together"
        )
    parameters = _parameters(document, "the request")
    return InferRequest(
        inputs=inputs,
        id=_id(document.get("id")),
        binary_outputs=(binary := _flag(parameters, "binary_data_output", False)),
        outputs=_outputs(document.get("outputs"), binary),
        schedule=Schedule(_timeout_s(parameters), _integer(parameters, "priority")),
        sequence=SequencePlace(
            _sequence_id(parameters.get("sequence_id")),
            _flag(parameters, "sequence_start", False),
            _flag(parameters, "sequence_end", False),
        ),
        parameters={name: value for name, value in parameters.items() if not _reserved(name)},
    )


def _inputs(stated: Any, tail: memoryview, *, framed: bool) -> tuple[tuple[TensorInput, ...], int]:
    """Return the inputs, and how many bytes of `tail` are theirs."""
    if not isinstance(stated, list) or not stated:
        raise WrongRequest("the request has no inputs: 'inputs' is a list of tensors, one at least")
    inputs: dict[str, TensorInput] = {}
    at = 0
    for tensor in stated:
        if not isinstance(tensor, dict) or not isinstance(name := tensor.get("name"), str):
            raise WrongRequest("each of 'inputs' has to be an object with a 'name'")
        if name in inputs:
            raise WrongRequest(f"input '{name}' is there twice")
        raw = None
        size = _binary_size(_parameters(tensor, f"input '{name}'"), name)
        if size is not None:
            if not framed:
                raise WrongRequest(
                    f"input '{name}' states binary_data_size, so the request must specify {HEADER_LENGTH}"
                )
            if at + size > len(tail):
                raise WrongRequest(
                    f"unexpected size for input '{name}': expecting {size} bytes of binary data and "
                    f"{len(tail) - at} are left"
                )
            raw, at = tail[at : at + size], at + size
        inputs[name] = _input(name, tensor, raw)
    return tuple(inputs.values()), at


def _input(name: str, tensor: dict[str, Any], raw: memoryview | None) -> TensorInput:
    datatype, data = tensor.get("datatype"), tensor.get("data")
    if not isinstance(datatype, str):
        raise WrongRequest(f"input '{name}' has no 'datatype', such as \"FP32\"")
    if (data is None) == (raw is None):
        has = "both 'data' and" if raw is not None else "neither 'data' nor"
        raise WrongRequest(f"input '{name}' has {has} binary_data_size; its elements come in one of the two")
    return TensorInput(name, datatype, _shape(tensor.get("shape"), name), data, raw)


def _shape(stated: Any, name: str) -> tuple[int, ...]:
    if not isinstance(stated, list) or any(
        type(size) is not int or not 0 <= size <= _LARGEST for size in stated[: _MAX_RANK + 1]
    ):
        raise WrongRequest(f"input '{name}' has no 'shape' that is a list of integers from 0 up")
    if len(stated) > _MAX_RANK:
        raise WrongRequest(f"input '{name}' has {len(stated)} dimensions, more than the {_MAX_RANK} allowed")
    return tuple(stated)


def _outputs(stated: Any, binary_by_default: bool) -> tuple[RequestedOutput, ...] | None:
    if stated is None or stated == []:
        return None
    if not isinstance(stated, list):
        raise WrongRequest("'outputs' has to be a list")
    outputs: dict[str, RequestedOutput] = {}
    for output in stated:
        if not isinstance(output, dict) or not isinstance(name := output.get("name"), str):
            raise WrongRequest("each of 'outputs' has to be an object with a 'name'")
        if name in outputs:
            raise WrongRequest(f"output '{name}' is there twice")
        parameters = _parameters(output, f"output '{name}'")
        _refuse_shared_memory(parameters, f"output '{name}'")
        if parameters.get("classification"):
            raise WrongRequest(
                f"output '{name}' asks for classification, an extension that this server does not have; ask "
                "for the scores and sort them"
            )
        outputs[name] = RequestedOutput(name, _flag(parameters, "binary_data", binary_by_default))
    return tuple(outputs.values())


def _binary_size(parameters: dict[str, Any], name: str) -> int | None:
    _refuse_shared_memory(parameters, f"input '{name}'")
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or not 0 <= size <= _LARGEST):
        raise WrongRequest(f"input '{name}' has binary_data_size {size!r}, which is no number of bytes")
    return size


def _id(stated: Any) -> str | None:
    if stated is not None and not isinstance(stated, str):
        raise WrongRequest(f"'id' has to be a string, not {type(stated).__name__}")
    return stated or None


def _parameters(holder: dict[str, Any], whose: str) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise WrongRequest(f"'parameters' of {whose} have to be an object")
    return parameters


def _flag(parameters: dict[str, Any], name: str, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise WrongRequest(f"the parameter '{name}' has to be true or false, not {value!r}")
    return value


def _integer(parameters: dict[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= _LARGEST:
        raise WrongRequest(f"the parameter '{name}' has to be an integer from 0 up, not {value!r}")
    return value


def _timeout_s(parameters: dict[str, Any]) -> float | None:
    """Return the parameter `timeout`, which is in microseconds and 0 for none, in seconds."""
    return _integer(parameters, "timeout") / 1e6 or None


def _sequence_id(stated: Any) -> int | str | None:
    """Return the parameter `sequence_id`; 0, an empty string and nothing mean none."""
    if isinstance(stated, str):
        if len(stated) > _MAX_SEQUENCE_ID:
            raise WrongRequest(f"'sequence_id' has {len(stated)} characters, more than {_MAX_SEQUENCE_ID}")
        return stated or None
    if stated is not None and (type(stated) is not int or not 0 <= stated < 2**64):
        raise WrongRequest(
            f"'sequence_id' has to be an integer from 0 to 2^64 - 1 or a string, not {stated!r:.40}"
        )
    return stated or None


def _reserved(name: str) -> bool:
    return name in {"binary_data_output", "timeout", "priority", "headers"} or name.startswith(
        ("sequence_", "triton_")
    )


def _refuse_shared_memory(parameters: dict[str, Any], whose: str) -> None:
    if _SHARED_MEMORY in parameters:
        raise WrongRequest(
            f"{whose} lies in shared memory, an extension that this server does not have; send the tensor "
            "with the request"
        )
