"""What the detector's answers look like. Routes write plain dictionaries; tests hold them to these."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.detector.dataplane.streams.windows import LATEST_US
from shared.core.http import ProblemDocument


class ThresholdFields(BaseModel):
    """What a request may state in place of the model's own thresholds, as query or form fields."""

    model_config = ConfigDict(extra="forbid")

    score_threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    iou_threshold: Annotated[float | None, Field(ge=0, le=1, allow_inf_nan=False)] = None
    max_detections: Annotated[int | None, Field(ge=1, le=10_000)] = None


class LabelFields(BaseModel):
    """What a request may state in place of a classification model's own thresholds."""

    model_config = ConfigDict(extra="forbid")

    threshold: Annotated[
        float | None,
        Field(ge=0, le=1, allow_inf_nan=False, description="For every label; default: each label's own."),
    ] = None


class ClassifyFields(LabelFields):
    heatmap: Annotated[
        str | None, Field(description="Label whose heat map is wanted, in place of probabilities.")
    ] = None


class Box(BaseModel):
    """Corners in pixels of the upright picture; (0, 0) is its upper left corner."""

    x1: float
    y1: float
    x2: float
    y2: float


class Detection(BaseModel):
    box: Box
    score: float = Field(ge=0, le=1)
    label: str
    label_id: int = Field(ge=0)


class ImageSize(BaseModel):
    """Pixels, after the rotation that the picture's EXIF data asks for."""

    width: int
    height: int


class TimingMs(BaseModel):
    """Milliseconds; in a batch, preprocess and compute are those of the whole batch."""

    queue: float
    preprocess: float
    compute: float
    postprocess: float


class PictureAnswer(BaseModel):
    image: ImageSize
    detections: list[Detection]
    timing_ms: TimingMs


class DetectAnswer(PictureAnswer):
    model: str
    version: int


class PictureProblem(BaseModel):
    problem: ProblemDocument


class BatchAnswer(BaseModel):
    model: str
    version: int
    results: list[PictureAnswer | PictureProblem] = Field(
        description="One for each picture, in the order sent; one that failed has a problem in its place."
    )


class LabelAnswer(BaseModel):
    label: str
    label_id: int = Field(ge=0)
    probability: float = Field(ge=0, le=1)
    threshold: float = Field(ge=0, le=1)
    present: bool = Field(description="Whether the probability is at least the threshold.")


class LabelsOfPicture(BaseModel):
    image: ImageSize
    labels: list[LabelAnswer] = Field(description="All labels of the model, in the order of label_id.")
    timing_ms: TimingMs


class ClassifyAnswer(LabelsOfPicture):
    model: str
    version: int


class ClassifyBatchAnswer(BaseModel):
    model: str
    version: int
    results: list[LabelsOfPicture | PictureProblem] = Field(
        description="One for each picture, in the order sent; one that failed has a problem in its place."
    )


class SensorSize(BaseModel):
    """Pixels of an event camera."""

    model_config = ConfigDict(extra="forbid")

    height: Annotated[int, Field(ge=1)]
    width: Annotated[int, Field(ge=1)]


Microseconds = Annotated[int, Field(ge=0, le=LATEST_US)]


class StreamFields(ThresholdFields):
    """What a client may state when it opens a stream."""

    sensor: Annotated[
        SensorSize | None, Field(description="Refused where it is not the sensor of the model.")
    ] = None
    start_us: Annotated[
        Microseconds | None,
        Field(description="Where the first window begins. Default: at the first event."),
    ] = None


class ChunkFields(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sequence: Annotated[
        int, Field(ge=0, le=2**53, description="0 for the first chunk of a stream, then one more each.")
    ]
    until_us: Annotated[
        Microseconds | None,
        Field(
            description="The sender's word that every event up to and including this time has been sent: "
            "completes windows that end there or before."
        ),
    ] = None


class WindowInput(BaseModel):
    """One window as the graph takes it."""

    representation: str
    dtype: Literal["uint8", "int8"]
    channels: int
    height: int
    width: int


class StreamView(BaseModel):
    """An open stream."""

    id: str
    model: str
    version: int = Field(description="The stream stays on it until it ends.")
    opened_at: datetime
    sensor: SensorSize
    window_us: int
    input: WindowInput
    start_us: int | None = Field(description="Where the first window begins; null until an event says so.")
    next_sequence: int = Field(description="The number of the chunk that comes next.")
    windows: int = Field(description="Windows answered so far.")
    pending_events: int = Field(description="Events that wait for their window to be complete.")
    idle_s: float = Field(description="Seconds since something was last asked of it.")
    idle_limit_s: float = Field(description="It ends once it has been idle for so long.")


class StreamList(BaseModel):
    streams: list[StreamView] = Field(description="The oldest first.")


class WindowDetections(BaseModel):
    """What was found in one window; boxes in pixels of the sensor."""

    index: int = Field(ge=0, description="Counted from the start of the stream.")
    start_us: int
    end_us: int
    detections: list[Detection]


class ChunkDetections(BaseModel):
    """Answers for the windows that a chunk completed; the times are sums over them."""

    stream: str
    model: str
    version: int
    sequence: int
    windows: list[WindowDetections]
    timing_ms: TimingMs


class ModelView(BaseModel):
    """One model of the repository, as this server has it."""

    name: str
    state: Literal["ready", "loading", "unavailable"]
    version: int | None = Field(description="The version that answers requests that name none.")
    task: str | None
    precision: str | None
    provider: str | None = Field(description="The ONNX Runtime provider that version really runs on.")
    loaded: list[int] = Field(description="Versions that can answer now.")
    aliases: dict[str, int] = Field(description="As the repository has them.")
    problems: list[str] = Field(description="Why an alias is not followed, or why nothing is loaded.")


class ModelList(BaseModel):
    models: list[ModelView]


class VersionView(BaseModel):
    version: int
    aliases: list[str]
    loaded: bool


class VersionList(BaseModel):
    model: str
    versions: list[VersionView]


class Labels(BaseModel):
    model: str
    version: int
    labels: list[str] = Field(description="Names in the order of label_id.")
