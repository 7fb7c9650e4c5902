"""Options of the person family; the defaults are the reference model of specs/person.md."""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

# The backbone's strides at which a head may sit.
LEVEL_STRIDES = (8, 16, 32)


class PersonConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_size: int = Field(416, ge=64, le=2048, multiple_of=16, description="Side of the square input.")
    grid_size: int = Field(
        26,
        ge=4,
        le=128,
        description="S: cells per side. Other than image_size / 16 only resamples the output map.",
    )
    depth: Literal["light", "base", "deep"] = Field("base", description="How many blocks follow block 8.")
    skips: bool = Field(False, description="Add a block's input to its output where the shapes match.")
    multi_scale: bool = Field(False, description="Heads at strides 8, 16 and 32; grid_size is then unused.")
    objectness_prior: float = Field(
        0.5, gt=0, lt=1, description="Objectness that the untrained heads predict; 0.5 is a bias of zero."
    )

    size_loss: Literal["squared", "sqrt", "ciou"] = Field("squared", description="The term L_wh of the loss.")
    lambda_coord: float = Field(5.0, gt=0, description="Weight of L_xy + L_wh (useful 2-10).")
    lambda_noobj: float = Field(0.5, gt=0, description="Weight of empty cells' objectness (useful 0.3-1).")

    top_k: int = Field(300, ge=1, le=5000, description="Candidates that decode gives at most, best first.")
    score_threshold: float = Field(0.5, ge=0, le=1, description="Default of a request.")
    iou_threshold: float = Field(0.5, ge=0, le=1, description="Default IoU of non-maximum suppression.")

    @model_validator(mode="after")
    def _levels_tile_the_image(self) -> Self:
        if self.multi_scale and self.image_size % LEVEL_STRIDES[-1]:
            raise ValueError(
                f"multi_scale needs an image_size that {LEVEL_STRIDES[-1]} divides, not {self.image_size}"
            )
        return self

    @property
    def grid_sizes(self) -> tuple[int, ...]:
        """Cells per side of every output level, finest first."""
        if self.multi_scale:
            return tuple(self.image_size // stride for stride in LEVEL_STRIDES)
        return (self.grid_size,)
