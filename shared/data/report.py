"""What the dataset check found, as one document."""

from pydantic import BaseModel, ConfigDict

from shared.data.dataset import Severity


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class ClassCount(_Part):
    """How often one class occurs; crowd regions are not counted."""

    name: str
    boxes: int
    images: int


class Spread(_Part):
    """Smallest, middle and largest of some lengths, and the 5th and 95th percentile."""

    min: float
    p05: float
    median: float
    p95: float
    max: float


class BoxSizes(_Part):
    """Sizes of the boxes: counts by COCO's area limits (32² and 96² pixels), and their spread.

    relative_height is a box's height divided by its picture's, 0..1.
    """

    small: int
    medium: int
    large: int
    width_px: Spread
    height_px: Spread
    relative_height: Spread


class SplitReport(_Part):
    """Counts of one split; `name` is empty where the data is not divided."""

    name: str
    images: int
    images_without_boxes: int
    boxes: int
    crowd_boxes: int
    image_sizes: dict[str, int]  # "width x height" -> pictures, the most frequent first
    classes: list[ClassCount]
    box_sizes: BoxSizes | None


class DefectReport(_Part):
    """One defect, where it is and what it means."""

    severity: Severity
    code: str
    split: str
    where: str
    detail: str


class DataReport(_Part):
    """The whole check. `ok` is False where there is any error; warnings and notes leave it True."""

    source: str
    format: str
    ok: bool
    errors: int
    warnings: int
    notes: int
    defect_counts: dict[str, int]
    splits: list[SplitReport]
    defects: list[DefectReport]
