"""A run, described completely: what `config.yaml` in a run folder holds."""

import re
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Base of every part: unknown keys are errors, and a value is never bent into another type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# Numbers of the validation split that runs are judged by; shared.config.monitors says which task has which.
Monitor = Literal["ap", "ap50", "macro_f1", "map", "val_loss"]


class DataConfig(Section):
    """Which labelled images, and how they reach the network."""

    path: str = Field(description="Data set: a folder or a file with labels.")
    format: Literal["auto", "coco", "yolo", "severstal", "labels_json", "labelme"] = Field(
        "auto", description="How the labels are written."
    )
    train: str = Field("train", description="Split to train on.")
    val: str | None = Field("val", description="Split that chooses the best weights; null: cut off `train`.")
    test: str | None = Field("test", description="Split for the final numbers, used when it is there.")
    val_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share of `train` held out when there is no validation split."
    )
    split_file: str | None = Field(
        None, description="Classification: file that says which image belongs to which split."
    )
    ratios: str = Field(
        "70,15,15", description="Classification: train,val,test shares of a set that is not divided."
    )
    window: str | None = Field(
        None,
        description="Classification: train on windows of HEIGHTxWIDTH pixels, labelled by what they show; "
        "null: on whole images.",
    )
    window_focus: float = Field(
        0.6, ge=0, le=1, description="Share of windows laid over a class, where the image holds any."
    )
    repeat_rare: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Classification: images whose classes are in a smaller share of all than this are drawn "
        "more often, by the root of how much rarer (repeat factor sampling); 0: every image once.",
    )
    num_workers: int = Field(0, ge=0, le=64, description="Loader processes; 0 loads in the training process.")
    cache: Literal["none", "ram"] = Field(
        "none", description="Keep decoded, letterboxed images, or frames of streams, in memory."
    )
    sampling: Literal["stream", "random", "mixed"] = Field(
        "mixed",
        description="Streams: recordings from their beginning on, what is remembered carried along; clips "
        "from anywhere, begun anew; or half of each batch so and half so.",
    )
    clip_length: int = Field(
        10, ge=1, le=200, description="Streams: windows of a clip, through which gradients go back in time."
    )

    @property
    def window_size(self) -> tuple[int, int] | None:
        """`window` as (height, width) in pixels of the network's input."""
        if self.window is None:
            return None
        height, width = self.window.split("x")
        return int(height), int(width)

    @model_validator(mode="after")
    def _window_of_two_sides(self) -> Self:
        if self.window is not None and not re.fullmatch(r"[1-9]\d{0,4}x[1-9]\d{0,4}", self.window):
            raise ValueError(f"window {self.window!r} is not HEIGHTxWIDTH in pixels, such as 128x160")
        return self

    @model_validator(mode="after")
    def _three_shares(self) -> Self:
        try:
            shares = [float(share) for share in self.ratios.split(",")]
        except ValueError:
            shares = []
        if len(shares) != 3 or not all(0 < share < float("inf") for share in shares):
            raise ValueError(
                f"ratios {self.ratios!r} are not three shares above 0, of train, val and test; "
                "write ratios='70,15,15', quotes included"
            )
        return self


class AugmentationConfig(Section):
    """Random changes of training images, or of the windows of a clip, which all get the same.

    Each name alone is the probability that an image or a clip gets it. The values of the recommended recipe
    stand in groups/augmentation/recommended.yaml; here all are off.
    """

    horizontal_flip: float = Field(0.0, ge=0, le=1, description="Mirror left and right.")
    vertical_flip: float = Field(0.0, ge=0, le=1, description="Mirror top and bottom.")
    shift: float = Field(0.0, ge=0, le=1, description="Move the image; what is uncovered is grey.")
    shift_fraction: float = Field(0.05, ge=0, le=1, description="By at most this share of each side.")
    brightness_contrast: float = Field(0.0, ge=0, le=1, description="Change brightness and contrast.")
    brightness_contrast_limit: float = Field(0.3, ge=0, le=1, description="By at most this share.")
    gaussian_noise: float = Field(0.0, ge=0, le=1, description="Add sensor-like noise.")
    gaussian_noise_std: float = Field(0.05, ge=0, le=1, description="Its largest deviation; 1 is white.")
    motion_blur: float = Field(0.0, ge=0, le=1, description="Blur along a random direction.")
    motion_blur_px: int = Field(5, ge=3, le=31, description="Longest blur in pixels of the network's input.")
    gamma: float = Field(0.0, ge=0, le=1, description="Change the gamma.")
    gamma_min: float = Field(0.8, gt=0, description="Smallest gamma.")
    gamma_max: float = Field(1.2, gt=0, description="Largest gamma.")
    clahe: float = Field(0.0, ge=0, le=1, description="Equalise contrast locally (CLAHE).")
    zoom_in: float = Field(
        0.0, ge=0, le=1, description="Streams: magnify around an object; clips from anywhere only."
    )
    zoom_in_factor: float = Field(1.5, ge=1, le=4, description="By at most this.")
    zoom_out: float = Field(
        0.0, ge=0, le=1, description="Streams: shrink onto an empty canvas; clips from anywhere."
    )
    zoom_out_streamed: float = Field(
        0.0, ge=0, le=1, description="Streams: the same of recordings that are followed from their beginning."
    )
    zoom_out_factor: float = Field(1.2, ge=1, le=4, description="By at most this, in both cases.")
    suppress_polarity: float = Field(0.0, ge=0, le=1, description="Streams: lose all events of one polarity.")
    event_noise: float = Field(0.0, ge=0, le=1, description="Streams: add background events.")
    event_noise_hz: float = Field(0.05, ge=0, description="Background events per pixel and second.")

    @model_validator(mode="after")
    def _one_zoom(self) -> Self:
        if self.zoom_in + self.zoom_out > 1:
            raise ValueError(
                f"a clip is magnified or shrunk, never both: zoom_in {self.zoom_in} and zoom_out "
                f"{self.zoom_out} are together above 1"
            )
        return self

    @model_validator(mode="after")
    def _gamma_range(self) -> Self:
        if self.gamma_min > self.gamma_max:
            raise ValueError(f"gamma_min {self.gamma_min} is above gamma_max {self.gamma_max}")
        return self


class OptimizerConfig(Section):
    """How a gradient becomes a step."""

    name: Literal["adam", "adamw", "sgd"] = Field("adamw", description="Optimiser.")
    lr: float = Field(1e-4, gt=0, description="Learning rate.")
    lr_reference_batch: int | None = Field(
        None,
        ge=1,
        description="Batch that `lr` is meant for, scaled linearly with the real one; null: not scaled.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Decay of weights (never of biases or normalisation).")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum, Adam's first beta.")


class ScheduleConfig(Section):
    """How the learning rate changes with time."""

    name: Literal["plateau", "cosine", "constant", "one_cycle"] = Field(
        "plateau",
        description="Rule after the warm-up. one_cycle has its own: in straight lines from lr/20 up to lr at "
        "0.5 % of all steps, and down to lr/10000 at the last.",
    )
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs of linear warm-up; 0 for none.")
    warmup_lr: float = Field(1e-6, ge=0, description="Learning rate at the first step of the warm-up.")
    monitor: Monitor = Field("val_loss", description="Plateau: the validation number that has to improve.")
    factor: float = Field(0.5, gt=0, lt=1, description="Plateau: the learning rate is multiplied by this.")
    patience: int = Field(5, ge=0, description="Plateau: evaluations without improvement before that.")
    min_lr: float = Field(0.0, ge=0, description="The learning rate never falls below this.")

    @model_validator(mode="after")
    def _one_rise(self) -> Self:
        if self.name == "one_cycle" and self.warmup_epochs:
            raise ValueError("one_cycle rises by itself; set warmup_epochs=0")
        return self


class TrainerConfig(Section):
    """The loop: how long, how large a batch, on which devices."""

    max_epochs: int = Field(100, ge=1, description="Epochs at most.")
    batch_size: int = Field(8, ge=1, description="Images, or clips of streams, per step and device.")
    precision: Literal["auto", "32", "16-mixed", "bf16-mixed"] = Field(
        "auto", description="auto: bf16-mixed or 16-mixed on a GPU, 32 on a CPU."
    )
    accumulate_grad_batches: int = Field(1, ge=1, description="Batches per optimiser step.")
    gradient_clip_norm: float = Field(0.0, ge=0, description="Largest norm of the gradient; 0: not clipped.")
    gradient_clip_value: float = Field(
        0.0, ge=0, description="Largest size of each number in the gradient; 0: not clipped."
    )
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Moving average of the weights; 0: off.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Evaluations without improvement before the end; null: never."
    )
    monitor: Monitor = Field(
        "ap", description="Validation number that chooses the best weights and stops early."
    )
    devices: int = Field(1, ge=1, description="Devices; on a CPU, processes.")
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="auto: a GPU where there is one.")
    strategy: Literal["auto", "ddp"] = Field("auto", description="auto: ddp when devices > 1.")
    num_threads: int | None = Field(None, ge=1, description="CPU threads of PyTorch; null: its own choice.")
    channels_last: bool = Field(True, description="Memory format of images and weights.")
    eval_every_epochs: int = Field(1, ge=1, description="Evaluate on the validation split every n epochs.")

    @model_validator(mode="after")
    def _clipped_in_one_way(self) -> Self:
        if self.gradient_clip_norm and self.gradient_clip_value:
            raise ValueError("set gradient_clip_norm or gradient_clip_value, not both")
        return self


class TrackingConfig(Section):
    """Where the run is recorded besides its own folder."""

    enabled: bool = Field(True, description="Log to MLflow (the address is SIGHTLINE_MLFLOW_URI).")
    experiment: str = Field("sightline", min_length=1, description="MLflow experiment.")
    hypothesis: str | None = Field(
        None, max_length=4000, description="What the run is to show, in words; kept with its numbers."
    )
    baseline: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Complete run, in the same folder, that metrics.json compares the final numbers with.",
    )


class RunConfig(Section):
    """Everything that decides a run's result. `model` is the family's own config, checked by its class."""

    family: str = Field(description="Name of the model family.")
    recipe: str = Field(description="Recipe the run started from.")
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of weights, data order and augmentation.")
    model: dict[str, Any] = Field(default_factory=dict, description="The family's config.")
    data: DataConfig
    augmentation: AugmentationConfig = AugmentationConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    trainer: TrainerConfig = TrainerConfig()
    tracking: TrackingConfig = TrackingConfig()
