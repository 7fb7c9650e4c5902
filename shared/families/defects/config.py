"""Options of the defects family; the defaults are the model of specs/defects.md."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shared.core.registry import NameIn
from shared.losses.registry import LOSSES
from shared.models.architectures import ARCHITECTURES

TASK = "classification"
STRIDE = 32  # of every architecture's last map


class DefectsConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    architecture: Annotated[str, NameIn(ARCHITECTURES, TASK)] = Field(
        "convnext_tiny_cbam", description="The network; `sightline models architectures` lists them."
    )
    height: int = Field(256, ge=STRIDE, le=4096, description="Height of the input, a multiple of 32.")
    width: int = Field(1600, ge=STRIDE, le=4096, description="Width of the input, a multiple of 32.")
    class_names: list[str] = Field(
        ["1", "2", "3", "4"], min_length=1, description="What the defects are called, in the labels' order."
    )
    normalize: Literal["none", "imagenet"] = Field(
        "imagenet",
        description="Pixels in 0..1, or by ImageNet's mean and deviation as standard weights want.",
    )
    spatial_gate_norm: Literal["group", "batch"] = Field(
        "group", description="Norm in CBAM's spatial gate; batch is the original and needs large batches."
    )
    layer_scale: float = Field(
        1e-6, gt=0, le=1, description="ConvNeXt: first factor of every block; 0.1 suits runs from scratch."
    )
    stochastic_depth: float = Field(
        0.1, ge=0, lt=1, description="ConvNeXt: chance of skipping the last block in training."
    )
    initial_weights: Literal["normal", "fan_in"] = Field(
        "normal",
        description="ConvNeXt: deviation 0.02, the source's, or 1 / √inputs, which suits runs from scratch.",
    )
    prior: float = Field(
        0.5, gt=0, lt=1, description="Probability that the untrained head predicts; 0.5 is a bias of zero."
    )
    weights: str | None = Field(
        None, description="File of standard weights (.safetensors or .pth) that a new run starts from."
    )

    loss: Annotated[str, NameIn(LOSSES, TASK)] = Field(
        "focal", description="The loss; `sightline models losses` lists them."
    )
    gamma: float = Field(2.0, ge=0, le=10, description="Focal: how little a sure answer counts.")
    negative_floor: float = Field(
        0.25, ge=0, le=1, description="Focal: a negative weighs 1 − α, but never less than this."
    )
    alpha_total: Literal["images"] = Field(
        "images", description="Focal: α of a class is 1 − its pictures / all training pictures."
    )

    @field_validator("height", "width")
    @classmethod
    def _whole_strides(cls, pixels: int) -> int:
        if pixels % STRIDE:
            below = pixels // STRIDE * STRIDE
            raise ValueError(
                f"{pixels} is not a multiple of {STRIDE}, the network's last stride;"
                f" the nearest are {below} and {below + STRIDE}"
            )
        return pixels

    @field_validator("class_names")
    @classmethod
    def _distinct_names(cls, names: list[str]) -> list[str]:
        if any(not name.strip() for name in names):
            raise ValueError("a class has an empty name")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"class names stand twice: {', '.join(twice)}")
        return names
