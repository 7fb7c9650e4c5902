"""What the dataset check found, as one document."""

from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from shared.data.dataset import Defect, Severity


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


class Report(_Part):
    """The whole check. `ok` is False where there is any error; warnings and notes leave it True."""

    source: str
    format: str
    ok: bool
    errors: int
    warnings: int
    notes: int
    defect_counts: dict[str, int]
    defects: list[DefectReport]


class DataReport(Report):
    """The check of a detection set."""

    splits: list[SplitReport]


class LabelCount(_Part):
    """How many pictures hold one class, and their share of the split, 0..1."""

    name: str
    images: int
    share: float


class LabelledSplitReport(_Part):
    """Counts of one split of a classification set; `name` is empty where the data is not divided.

    combinations: pictures by the classes they hold together, "1+3", the most frequent first, "" for none.
    groups: groups that the source names; unlabelled: pictures about which it says nothing.
    """

    name: str
    images: int
    images_without_labels: int
    image_sizes: dict[str, int]  # "width x height" -> pictures, the most frequent first
    classes: list[LabelCount]
    combinations: dict[str, int]
    groups: int
    unlabelled: int


class LabelledDataReport(Report):
    """The check of a classification set."""

    splits: list[LabelledSplitReport]


def summary(path: Path, name: str, defects: list[tuple[str, Defect]]) -> dict[str, Any]:
    """Return the fields of a Report: defects (split, defect) by severity and code, and their counts."""
    order = list(Severity)
    ordered = sorted(defects, key=lambda item: (order.index(item[1].severity), item[1].code, item[0]))
    severities = Counter(defect.severity for _, defect in ordered)
    return {
        "source": str(path),
        "format": name,
        "ok": severities[Severity.ERROR] == 0,
        "errors": severities[Severity.ERROR],
        "warnings": severities[Severity.WARNING],
        "notes": severities[Severity.NOTE],
        "defect_counts": dict(Counter(defect.code for _, defect in ordered)),
        "defects": [
            DefectReport(
                severity=defect.severity,
                code=defect.code,
                split=split,
                where=defect.where,
                detail=defect.detail,
            )
            for split, defect in ordered
        ],
    }
