"""What the protocol's documents look like, for OpenAPI and for tests.

Requests are read by `request.py` instead: validating a tensor element by element would cost more than the
model. Fields that are unknown are ignored, as Triton does.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]
_Size = Annotated[int, Field(ge=0, le=2**63 - 1)]


class ErrorAnswer(BaseModel):
    error: str = Field(description="What was wrong, with which value, and what to do.")


class ServerMetadata(BaseModel):
    name: str
    version: str
    extensions: list[str] = Field(description="Extensions of the protocol that work here.")


class ServerHealth(BaseModel):
    live: Literal[True] | None = None
    ready: Literal[True] | None = None


class ModelHealth(BaseModel):
    name: str
    ready: Literal[True]


class TensorMetadata(BaseModel):
    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1 for a size that is free, the batch first of all.")


class ModelMetadata(BaseModel):
    name: str
    versions: list[str] = Field(description="Versions that can answer now.")
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class InferInput(BaseModel):
    name: str
    shape: list[_Size] = Field(description="The batch first.", max_length=16)
    datatype: Datatype
    parameters: dict[str, Any] | None = Field(
        None, description="`binary_data_size`: the bytes of this tensor behind the JSON, in place of `data`."
    )
    data: list[Any] | None = Field(None, description="Elements, flat in row-major order or nested.")


class InferRequestedOutput(BaseModel):
    name: str
    parameters: dict[str, Any] | None = Field(
        None, description="`binary_data`: whether this output comes behind the JSON of the answer."
    )


class InferRequest(BaseModel):
    id: str | None = Field(None, description="Comes back in the answer.")
    parameters: dict[str, Any] | None = Field(
        None,
        description="`binary_data_output`, `timeout` (microseconds), `priority` (1 is the highest); for a "
        "model with states `sequence_id`, `sequence_start` and `sequence_end`; for pictures what their task "
        "knows, such as `score_threshold`.",
    )
    inputs: list[InferInput] = Field(min_length=1)
    outputs: list[InferRequestedOutput] | None = Field(None, description="None stated: all.")


class InferOutput(BaseModel):
    name: str
    datatype: Datatype
    shape: list[int]
    parameters: dict[str, int] | None = None
    data: list[Any] | None = Field(None, description="Flat, in row-major order.")


class InferAnswer(BaseModel):
    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[InferOutput]


class Duration(BaseModel):
    count: int
    ns: int


class InferenceStatistics(BaseModel):
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration
    cancel: Duration


class BatchStatistics(BaseModel):
    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(BaseModel):
    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since the epoch; 0 before the first.")
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class Statistics(BaseModel):
    model_stats: list[ModelStatistics]


class IndexRequest(BaseModel):
    ready: bool = Field(False, description="Only what can answer now.")


class IndexEntry(BaseModel):
    name: str
    version: str | None = None
    state: Literal["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]
    reason: str


class RepositoryRequest(BaseModel):
    parameters: dict[str, Any] | None = Field(
        None, description="`config` and `file:…` of Triton are refused."
    )
