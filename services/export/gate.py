"""The gate: no file becomes a version unless it does on held-out pictures what the network does."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from services.export.measurement import Measurements
from services.export.problems import GateRefused
from shared.repository.manifest import Precision

# Fewer pictures than this measure AP in steps too coarse for the bounds below; the report says so.
FEW_PICTURES = 50


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


@dataclass(frozen=True, slots=True)
class Check:
    """One number of the report; without a bound it is there to be read."""

    name: str
    measured: float
    bound: float | None
    unit: str = ""

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        return self.bound is None or self.measured <= self.bound


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
        _ap_check("AP", "ap", measured, bounds),
        _ap_check("AP50", "ap50", measured, None),
    ]
    if end_to_end:
        mismatches = measured.suppression_mismatches
        result.append(Check("suppression differs from shared.vision.nms", mismatches, 0, "pictures"))
    return result


def _ap_check(title: str, key: str, measured: Measurements, bounds: Bounds | None) -> Check:
    before, after = measured.before.get(key, math.nan), measured.after.get(key, math.nan)
    both_ways = bounds is None or bounds.both_ways
    change = abs(before - after) if both_ways else before - after
    name = f"{title} {'difference' if both_ways else 'loss'} ({before:.4f} to {after:.4f})"
    return Check(name, change, None if bounds is None else bounds.ap)


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
    found = checks(measured, precision, labels, image_side_px, end_to_end=end_to_end)
    notes = []
    if measured.pictures < FEW_PICTURES:
        notes.append(
            f"only {measured.pictures} held-out pictures: AP moves in coarse steps, so its bound says little"
        )
    if measured.before.get("ap", 0.0) < 10 * BOUNDS[precision].ap:
        notes.append("the network itself finds next to nothing, so there is little AP that could be lost")
    report: dict[str, Any] = {
        "precision": precision,
        "pictures": measured.pictures,
        "pictures_available": available,
        "objects": measured.objects,
        "candidates_compared": measured.candidates_compared,
        "checks": [asdict(check) | {"passed": check.passed} for check in found],
        "notes": notes,
    }
    _refuse_without_truth(measured, report)
    failed = [check for check in found if not check.passed]
    if failed:
        worst = failed[0]
        raise GateRefused(
            f"{worst.name}: {worst.measured:.6g} {worst.unit}".rstrip()
            + f", and {precision} allows {worst.bound:.6g} (on {measured.pictures} held-out pictures)"
            + (f"; {len(failed) - 1} more checks failed" if len(failed) > 1 else ""),
            report,
        )
    return report


def _refuse_without_truth(measured: Measurements, report: dict[str, Any]) -> None:
    if measured.objects == 0 and not measured.non_finite:
        raise GateRefused(
            f"the {measured.pictures} held-out pictures of the run hold 0 labelled objects, the least is 1: "
            "AP cannot be compared; train with a validation split that has some",
            report,
        )
