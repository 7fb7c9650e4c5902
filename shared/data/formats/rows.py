"""Label rows of any format checked in one way, so that COCO and YOLO sets report the same defects."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Defect, Severity
from shared.vision.boxes import Boxes, clip_boxes

OUTSIDE_TOLERANCE_PX = 1.0  # labels are rounded; less than this beyond the edge is clipped without a word
TINY_SIDE_PX = 2.0


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One box as its file states it: corners in pixels, class index, crowd flag and where it stands."""

    box: tuple[float, float, float, float]
    label: int
    ignore: bool
    where: str


def usable_rows(
    rows: list[LabelRow], width: int, height: int
) -> tuple[Boxes, NDArray[np.int64], NDArray[np.bool_], list[Defect]]:
    """Return boxes [N, 4] inside the picture, labels [N], ignore flags [N], and every defect of the rows.

    A row is left out when its box is not finite, has no area, lies wholly outside the picture or repeats an
    earlier row; each of these is in the defects.
    """
    kept: list[tuple[Boxes, LabelRow]] = []
    defects: list[Defect] = []
    seen: set[tuple[object, ...]] = set()
    for row in rows:
        key = (*row.box, row.label, row.ignore)
        if key in seen:
            defects.append(
                Defect(Severity.WARNING, "duplicate_row", row.where, "the same box stands twice; kept once")
            )
            continue
        seen.add(key)
        clipped, found = _check_box(row, width, height)
        defects += found
        if clipped is not None:
            kept.append((clipped, row))
    boxes = np.stack([box for box, _ in kept]) if kept else np.zeros((0, 4), np.float32)
    labels = np.array([row.label for _, row in kept], dtype=np.int64)
    ignore = np.array([row.ignore for _, row in kept], dtype=bool)
    return boxes, labels, ignore, defects


def _check_box(row: LabelRow, width: int, height: int) -> tuple[Boxes | None, list[Defect]]:
    x1, y1, x2, y2 = row.box
    shown = f"({x1:g}, {y1:g}, {x2:g}, {y2:g})"

    def defect(severity: Severity, code: str, detail: str) -> Defect:
        return Defect(severity, code, row.where, detail)

    if not np.isfinite(row.box).all():
        return None, [defect(Severity.ERROR, "not_finite", f"box {shown} holds NaN or infinity; left out")]
    if x2 <= x1 or y2 <= y1:
        return None, [defect(Severity.ERROR, "empty_box", f"box {shown} has no area; left out")]
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return None, [
            defect(
                Severity.ERROR,
                "box_outside",
                f"box {shown} lies outside the {width} x {height} picture; left out",
            )
        ]
    found: list[Defect] = []
    if max(-x1, -y1, x2 - width, y2 - height) > OUTSIDE_TOLERANCE_PX:
        found.append(
            defect(
                Severity.WARNING, "box_clipped", f"box {shown} reaches beyond the {width} x {height} picture"
            )
        )
    clipped = clip_boxes(np.array([row.box], dtype=np.float32), height, width)[0]
    smaller_side = float(min(clipped[2] - clipped[0], clipped[3] - clipped[1]))
    if smaller_side < TINY_SIDE_PX:
        found.append(defect(Severity.WARNING, "tiny_box", f"box {shown} is only {smaller_side:.2g} px thick"))
    return clipped, found
