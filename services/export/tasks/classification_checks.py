"""What the gate checks of a classification model."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from services.export.gate import FEW_PICTURES, Check, quality_check, verdict
from services.export.tasks.classification_measurement import Measurements
from shared.repository.manifest import Precision


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a precision may differ by; None: measured and reported, not bounded.

    raw: of logits and probabilities. maps: of activation maps, as a share of their largest value, and of
    their mean from the logit. f1: share of 1 (0.01 is one point of macro-F1).
    """

    raw: float | None
    maps: float | None
    batch: float
    f1: float
    both_ways: bool


# fp32 is the same computation, so any difference is a fault. A reduced precision may move single decisions;
# what it may cost is F1, and a gain is no reason to refuse.
BOUNDS: Mapping[Precision, Bounds] = MappingProxyType(
    {
        "fp32": Bounds(raw=1e-3, maps=1e-3, batch=1e-4, f1=0.001, both_ways=True),
        "fp16": Bounds(raw=None, maps=None, batch=1e-2, f1=0.005, both_ways=False),
        "int8": Bounds(raw=None, maps=None, batch=1e-2, f1=0.01, both_ways=False),
    }
)


def checks(measured: Measurements, precision: Precision) -> list[Check]:
    """Return every check of the gate with what was measured, most telling first."""
    if measured.non_finite:
        return [Check("outputs that are not finite", measured.non_finite, 0, "values")]
    bounds = BOUNDS[precision]
    map_bound = None if bounds.maps is None else bounds.maps * measured.map_scale
    return [
        Check("logits, max difference", measured.logit_difference, bounds.raw),
        Check("probabilities, max difference", measured.probability_difference, bounds.raw),
        Check("activation maps, max difference", measured.map_difference, map_bound),
        Check("mean of a map against its logit", measured.map_mean_difference, bounds.maps),
        Check("batch 1 against batch N", measured.batch_difference, bounds.batch),
        quality_check(
            "macro-F1", "macro_f1", measured.before, measured.after, bounds.f1, both_ways=bounds.both_ways
        ),
        quality_check("mean AP", "map", measured.before, measured.after, None, both_ways=True),
        quality_check("macro AUROC", "macro_auroc", measured.before, measured.after, None, both_ways=True),
        Check("labels decided otherwise", measured.decisions - measured.agreed, None, "labels"),
    ]


def judge(
    measured: Measurements, precision: Precision, *, available: int, note: str | None = None
) -> dict[str, Any]:
    """Return the parity report for the manifest, with `agreement`, the share of equal label decisions.

    available: held-out pictures that the run has, of which `measured.pictures` were used. Raises
    GateRefused, which names the first number that failed, its bound and what was measured.
    """
    notes = [] if note is None else [note]
    if measured.pictures < FEW_PICTURES:
        notes.append(
            f"only {measured.pictures} held-out pictures: F1 moves in coarse steps, so its bound says little"
        )
    if measured.before.get("macro_f1", 0.0) < 10 * BOUNDS[precision].f1:
        notes.append("the network itself finds next to nothing, so there is little F1 that could be lost")
    nothing_to_find = measured.positives == 0 and not measured.non_finite
    report = verdict(
        checks(measured, precision),
        precision,
        {
            "pictures": measured.pictures,
            "pictures_available": available,
            "labels_present": measured.positives,
            "labels_decided": measured.decisions,
        },
        notes,
        without_truth=f"the {measured.pictures} held-out pictures of the run hold 0 labels, the least is 1: "
        "F1 cannot be compared; train with a validation split that has some"
        if nothing_to_find
        else None,
    )
    return report | {"agreement": measured.agreed / measured.decisions}
