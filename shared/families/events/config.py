"""Options of the events family; the defaults are RVT as published (specs/events.md sections 1 and 2)."""

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.data.events.classes import CLASS_LISTS

TASK = "stream_detection"
STAGE_STRIDES = (4, 8, 16, 32)


@dataclass(frozen=True)
class Size:
    """embed_dim: channels of the first stage, doubled by each further one. bottlenecks: per CSP block."""

    embed_dim: int
    head_dim: int
    bottlenecks: int


SIZES = {"nano": Size(16, 16, 1), "tiny": Size(32, 32, 1), "small": Size(48, 24, 1), "base": Size(64, 32, 2)}


@dataclass(frozen=True)
class Sensor:
    """height, width: of the histograms, in pixels. split: of a stage's map into windows, per 32 pixels."""

    height: int
    width: int
    split: int
    classes: str
    half: bool = False


SENSORS = {
    "gen1": Sensor(240, 304, 1, "gen1"),
    "gen4": Sensor(360, 640, 2, "gen4", half=True),  # 720 × 1280, halved
    "etram": Sensor(360, 640, 2, "etram8", half=True),  # 720 × 1280, halved
}


class EventsConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    size: Literal["nano", "tiny", "small", "base"] = Field(
        "tiny", description="RVT-T, RVT-S or RVT-B as published, or half of RVT-T's width."
    )
    sensor: Literal["gen1", "gen4", "etram", "custom"] = Field(
        "gen1",
        description="Gives height, width, partition_split and classes; a custom one needs them stated.",
    )
    height: int | None = Field(
        None, ge=32, le=2048, description="Height of the histograms before padding, instead of the sensor's."
    )
    width: int | None = Field(
        None, ge=32, le=2048, description="Width of the histograms before padding, instead of the sensor's."
    )
    partition_split: int | None = Field(
        None,
        ge=1,
        le=8,
        description="s: sides are padded to multiples of 32·s; attention windows are padded sides / 32·s.",
    )
    representation: Literal["stacked_histogram", "mixed_density", "ternary_volume"] = Field(
        "stacked_histogram", description="How a window of events is shown to the network."
    )
    bins: int = Field(10, ge=1, le=64, description="Time bins of a window.")
    window_ms: int = Field(50, ge=1, le=1000, description="Length of a window.")
    half: bool | None = Field(
        None,
        description="Whether histograms keep the odd rows and columns of a sensor of twice their sides, "
        "instead of the sensor's own way.",
    )
    num_classes: int | None = Field(
        None, ge=1, le=1000, description="How many classes, instead of the sensor's."
    )
    class_names: list[str] | None = Field(
        None, min_length=1, description="What the classes are called, in the labels' order."
    )

    scales: Literal[3, 4] = Field(
        3, description="Levels of the pyramid: strides 8, 16, 32, or 4 as well (specs/events.md section 14)."
    )
    attention: Literal["none", "se", "cbam"] = Field(
        "none", description="Attention on every level of the pyramid, before the head."
    )
    depthwise_lstm: Literal["none", "hidden", "concat"] = Field(
        "none", description="Depthwise convolution before the LSTM's 1×1: on the old h, or on x and h."
    )
    depthwise_kernel: Literal[3, 5, 7] = Field(3, description="Side of that depthwise convolution.")

    weights: str | None = Field(
        None,
        description="File of RVT's weights that a new run starts from, such as an imported run's "
        "weights.safetensors.",
    )

    chrono_steps: int | None = Field(
        None,
        ge=2,
        description="Initial memory of half of the LSTM's channels: from 1 to so many windows; "
        "null: as published, none in particular.",
    )

    box_loss: Literal["iou", "giou"] = Field("iou", description="1 − IoU² or 1 − GIoU.")
    l1_weight: float = Field(
        0.0, ge=0, description="Weight of the L1 term, which YOLOX adds in its last epochs and RVT never."
    )
    size_aware: float | None = Field(
        None,
        gt=0,
        description="τ in pixels: an object of area a weighs exp(−√a / τ) in the box and class terms.",
    )
    temporal_consistency: float = Field(
        0.0, ge=0, description="Weight of the squared change of scores between neighbouring windows."
    )

    top_k: int = Field(1000, ge=1, le=20000, description="Candidates that decode gives at most, best first.")
    score_threshold: float = Field(0.1, ge=0, le=1, description="Default of a request; 0.001 for evaluation.")
    iou_threshold: float = Field(
        0.45, ge=0, le=1, description="Default IoU of non-maximum suppression, class by class."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.sensor == "custom":
            missing = [name for name in ("height", "width") if getattr(self, name) is None]
            if self.num_classes is None and self.class_names is None:
                missing.append("class_names (or num_classes)")
            if missing:
                raise ValueError(f"a custom sensor needs {', '.join(missing)}")
        names = self.class_names
        if names is None:
            return self
        if self.num_classes not in (None, len(names)):
            raise ValueError(f"num_classes is {self.num_classes}, but class_names has {len(names)} names")
        if any(not name.strip() for name in names):
            raise ValueError("a class has an empty name")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"class names stand twice: {', '.join(twice)}")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by label; a number for each where only num_classes is known."""
        if self.class_names is not None:
            return tuple(self.class_names)
        preset = () if self.sensor == "custom" else CLASS_LISTS[SENSORS[self.sensor].classes].names
        if self.num_classes in (None, len(preset)):
            return preset
        return tuple(str(number) for number in range(self.num_classes or 0))

    @property
    def channels(self) -> int:
        """Channels of a window as the network takes it: of the reference, polarities × time bins."""
        # It loads OpenCV, which a list of families can do without.
        from shared.vision.event_stacks import REPRESENTATIONS

        channels: int = REPRESENTATIONS.load(self.representation)(bins=self.bins).channels
        return channels

    @property
    def halved(self) -> bool:
        """Whether histograms are of every other row and column of the sensor."""
        if self.half is not None:
            return self.half
        return self.sensor != "custom" and SENSORS[self.sensor].half

    @property
    def split(self) -> int:
        """s of specs/events.md section 2."""
        if self.partition_split is not None:
            return self.partition_split
        return 1 if self.sensor == "custom" else SENSORS[self.sensor].split

    @property
    def sensor_size(self) -> tuple[int, int]:
        """(height, width) of the histograms that the network takes."""
        preset = SENSORS.get(self.sensor)
        height = self.height if self.height is not None else preset.height if preset else 0
        width = self.width if self.width is not None else preset.width if preset else 0
        return height, width

    @property
    def padded_size(self) -> tuple[int, int]:
        """(height, width) after zeros at the bottom and the right: multiples of 32·s."""
        multiple = STAGE_STRIDES[-1] * self.split
        height, width = (-(-side // multiple) * multiple for side in self.sensor_size)
        return height, width

    @property
    def partition_size(self) -> tuple[int, int]:
        """(rows, columns) of an attention window, and of the grid, in every stage."""
        height, width = self.padded_size
        return height // (STAGE_STRIDES[-1] * self.split), width // (STAGE_STRIDES[-1] * self.split)

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of the four stages."""
        return tuple(SIZES[self.size].embed_dim * factor for factor in (1, 2, 4, 8))

    @property
    def level_strides(self) -> tuple[int, ...]:
        """Strides of the pyramid's levels in pixels, finest first."""
        return STAGE_STRIDES[-self.scales :]

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of the pyramid's levels, finest first."""
        height, width = self.padded_size
        return tuple((height // stride, width // stride) for stride in self.level_strides)

    @property
    def cell_count(self) -> int:
        """Cells of all levels: rows of the decoded output."""
        return sum(rows * columns for rows, columns in self.level_sizes)
