"""What the gate checks of a detection model."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from services.export.gate import FEW_PICTURES, Check, quality_check, verdict
from services.export.tasks.detection_measurement import Measurements
from shared.repository.manifest import Precision


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a precision may differ by; None: measured and reported, not bounded.

    ap: share of 1 (0.01 is one point of AP). final: of scores, and of boxes as a share of the longer side of
    the network's input, as which the raw outputs state them.
    """

    raw: float | None
    final: float | None
    batch: float
    ap: float
    both_ways: bool


# fp32 is the same computation, so any difference is a fault. The others compute something else on purpose:
# what they may cost is AP, and a gain is no reason to refuse. In reduced precision one rounding that falls
# the other way moves an output by about a step of that precision, also between batch sizes.
BOUNDS: Mapping[Precision, Bounds] = MappingProxyType(
    {
        "fp32": Bounds(raw=1e-3, final=1e-3, batch=1e-4, ap=0.001, both_ways=True),
        "fp16": Bounds(raw=None, final=None, batch=1e-2, ap=0.005, both_ways=False),
        "int8": Bounds(raw=None, final=None, batch=1e-2, ap=0.01, both_ways=False),
    }
)


def checks(
    measured: Measurements, precision: Precision, labels: int, image_side_px: int, *, end_to_end: bool
) -> list[Check]:
    """Return every check of the gate with what was measured, most telling first."""
    if measured.non_finite:
        return [Check("outputs that are not finite", measured.non_finite, 0, "values")]
    bounds = BOUNDS[precision]
    result = [Check("raw outputs, max difference", measured.raw_difference, bounds.raw)]
    if bounds.final is not None:
        # Candidates are matched by score, which makes sense only where scores hardly move.
        result += [
            Check("scores, max difference", measured.score_difference, bounds.final),
            Check("boxes, max difference", measured.box_difference_px, bounds.final * image_side_px, "px"),
        ]
    result += [
        Check("batch 1 against batch N", measured.batch_difference, bounds.batch),
        Check(
            "largest label above the labels known", max(0, measured.largest_label - labels + 1), 0, "labels"
        ),
        quality_check("AP", "ap", measured.before, measured.after, bounds.ap, both_ways=bounds.both_ways),
        quality_check("AP50", "ap50", measured.before, measured.after, None, both_ways=True),
    ]
    if end_to_end:
        mismatches = measured.suppression_mismatches
        result.append(Check("suppression differs from shared.vision.nms", mismatches, 0, "pictures"))
    return result


def judge(
    measured: Measurements,
    precision: Precision,
    *,
    labels: int,
    image_side_px: int,
    available: int,
    end_to_end: bool,
) -> dict[str, Any]:
    """Return the parity report for the manifest.

    available: held-out pictures that the run has, of which `measured.pictures` were used. Raises
    GateRefused, which names the first number that failed, its bound and what was measured.
    """
    notes = []
    if measured.pictures < FEW_PICTURES:
        notes.append(
            f"only {measured.pictures} held-out pictures: AP moves in coarse steps, so its bound says little"
        )
    if measured.before.get("ap", 0.0) < 10 * BOUNDS[precision].ap:
        notes.append("the network itself finds next to nothing, so there is little AP that could be lost")
    nothing_to_find = measured.objects == 0 and not measured.non_finite
    return verdict(
        checks(measured, precision, labels, image_side_px, end_to_end=end_to_end),
        precision,
        {
            "pictures": measured.pictures,
            "pictures_available": available,
            "objects": measured.objects,
            "candidates_compared": measured.candidates_compared,
        },
        notes,
        without_truth=f"the {measured.pictures} held-out pictures of the run hold 0 labelled objects, the "
        "least is 1: AP cannot be compared; train with a validation split that has some"
        if nothing_to_find
        else None,
    )
