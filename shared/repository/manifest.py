"""What a repository version says of itself; all that a server has to know stands in it."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.repository.problems import CorruptVersion, UnsupportedManifest

SCHEMA_VERSION: Final = 1
MANIFEST_FILE = "manifest.json"
MODEL_FILE = "model.onnx"

Task = Literal["detection", "classification", "stream_detection"]
Precision = Literal["fp32", "fp16", "int8"]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# Files lie directly in the version's folder: a name with a separator could point out of it.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Document):
    """One input or output of the graph; -1 stands for a dimension that is free, the batch first of all."""

    name: str
    dtype: Literal["uint8", "int8", "float16", "float32", "int64"]
    shape: list[Annotated[int, Field(ge=-1)]]


class Preprocessing(_Document):
    """What is done to a decoded image before it enters the graph."""

    color: Literal["RGB"] = "RGB"
    layout: Literal["NHWC"] = "NHWC"
    resize: Literal["letterbox"] = "letterbox"
    height: Annotated[int, Field(gt=0, description="pixels")]
    width: Annotated[int, Field(gt=0, description="pixels")]
    pad_value: Annotated[int, Field(ge=0, le=255, description="grey level of the borders")] = 114


class EventPreprocessing(_Document):
    """What is done to the events of a window before they enter the graph; see shared.vision.event_stacks.

    A window holds the events from its end - window_ms to its end, both included.
    """

    representation: Literal["stacked_histogram", "mixed_density", "ternary_volume"]
    bins: Annotated[int, Field(gt=0, description="time bins of a window")]
    window_ms: Annotated[int, Field(gt=0)]
    sensor_height: Annotated[int, Field(gt=0, description="pixels of the camera")]
    sensor_width: Annotated[int, Field(gt=0, description="pixels of the camera")]
    halved: Annotated[bool, Field(description="only odd rows and columns of the sensor are kept")]
    height: Annotated[int, Field(gt=0, description="pixels of the graph's input, as boxes have them")]
    width: Annotated[int, Field(gt=0, description="pixels of the graph's input, as boxes have them")]

    @model_validator(mode="after")
    def _input_of_the_sensor(self) -> Self:
        factor = 2 if self.halved else 1
        if (self.sensor_height // factor, self.sensor_width // factor) != (self.height, self.width):
            raise ValueError(
                f"a sensor of {self.sensor_height}×{self.sensor_width}{', halved,' if self.halved else ''} "
                f"gives no input of {self.height}×{self.width}"
            )
        return self


class StateSpec(_Document):
    """A tensor that a stream carries: the graph's input takes what its output gave for the last window.

    A stream begins with zeros.
    """

    input: str
    output: str


class Thresholds(_Document):
    """Of a detection model, in pictures or streams: what a request gets that states none of its own."""

    score_threshold: Annotated[float, Field(ge=0, le=1)]
    iou_threshold: Annotated[float, Field(ge=0, le=1)]
    max_detections: Annotated[int, Field(gt=0)]


class LabelThresholds(_Document):
    """Of a classification model: from which probability on each label counts as present, in their order."""

    probability: Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=1)]


class Metrics(_Document):
    """Metrics of the task on the same held-out images, of the PyTorch network and of the exported file."""

    before: dict[str, float] = Field(default_factory=dict)
    after: dict[str, float] = Field(default_factory=dict)


class FileEntry(_Document):
    sha256: Digest
    bytes: Annotated[int, Field(ge=0)]


class ManifestDraft(_Document):
    """What the maker of a version knows; the repository adds name, version, files and date."""

    family: str
    task: Task = "detection"
    precision: Precision
    end_to_end: bool = Field(False, description="Whether non-maximum suppression is inside the graph.")
    inputs: Annotated[list[TensorSpec], Field(min_length=1)]
    outputs: Annotated[list[TensorSpec], Field(min_length=1)]
    preprocessing: Preprocessing | EventPreprocessing
    states: list[StateSpec] = Field(default_factory=list, description="What a stream carries along.")
    labels: Annotated[list[str], Field(min_length=1)]
    thresholds: Thresholds | LabelThresholds
    metrics: Metrics = Metrics()
    parity: dict[str, Any] = Field(default_factory=dict, description="The report of the export gate.")
    source_run: str | None = None
    source_job: str | None = Field(None, description="The job that made the version, if one did.")
    data_hash: str | None = None
    libraries: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _input_of_the_task(self) -> Self:
        streams = self.task == "stream_detection"
        if isinstance(self.preprocessing, EventPreprocessing) != streams:
            raise ValueError(f"a {self.task} model has no preprocessing such as {self.preprocessing}")
        if bool(self.states) != streams:
            raise ValueError(f"a {self.task} model has {len(self.states)} states")
        inputs = {spec.name: spec for spec in self.inputs}
        outputs = {spec.name: spec for spec in self.outputs}
        for state in self.states:
            before, after = inputs.get(state.input), outputs.get(state.output)
            if before is None or after is None or (before.dtype, before.shape) != (after.dtype, after.shape):
                raise ValueError(f"the state {state.input} and {state.output} are no input and output alike")
        return self

    @model_validator(mode="after")
    def _thresholds_of_the_task(self) -> Self:
        if isinstance(self.thresholds, LabelThresholds) != (self.task == "classification"):
            raise ValueError(f"the thresholds {self.thresholds} are not those of a {self.task} model")
        if isinstance(self.thresholds, LabelThresholds):
            stated, labels = len(self.thresholds.probability), len(self.labels)
            if stated != labels:
                raise ValueError(f"there are {stated} probability thresholds for {labels} labels")
        return self


class Manifest(ManifestDraft):
    schema_version: Literal[1] = 1
    name: str
    version: Annotated[int, Field(gt=0)]
    files: dict[FileName, FileEntry]
    created_at: datetime


def complete(draft: ManifestDraft, *, name: str, version: int, files: dict[str, FileEntry]) -> Manifest:
    """Return the manifest of a version that is about to be published, dated now."""
    return Manifest(
        **{field: getattr(draft, field) for field in ManifestDraft.model_fields},
        name=name,
        version=version,
        files=files,
        created_at=datetime.now(UTC).replace(microsecond=0),
    )


def read_manifest(path: Path) -> Manifest:
    """Read and validate a manifest file.

    Raises CorruptVersion if it is missing, is no JSON or lacks fields, and UnsupportedManifest if its
    schema_version is not the one this release writes.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise CorruptVersion(f"{path} is missing; remove this version or export it again") from error
    except ValueError as error:
        raise CorruptVersion(
            f"{path} is not JSON ({error}); remove this version or export it again"
        ) from error
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if schema != SCHEMA_VERSION:
        raise UnsupportedManifest(
            f"{path} has schema_version {schema!r} and this release reads {SCHEMA_VERSION}; "
            "export the model again, or use the release that wrote it"
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CorruptVersion(
            f"{path}: {where}: {first['msg']} ({error.error_count()} wrong fields)"
        ) from error
