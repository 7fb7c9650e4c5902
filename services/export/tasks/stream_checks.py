"""What the gate checks of a stream model."""

from typing import Any

from services.export.gate import Check, quality_check, verdict
from services.export.tasks.stream_measurement import BATCH, Drift, Measurements

# fp32 is the same computation, so any difference is a fault. Boxes may differ by SAME as a share of the
# longer side, everything else by SAME as it is; states grow with what a stream saw, so theirs is a share of
# the largest where that is above 1. AP: share of 1 (0.001 is a tenth of a point).
SAME = 1e-3
SAME_IN_A_BATCH = 1e-4
SAME_AP = 0.001
FEW_RECORDINGS = 4


def checks(measured: Measurements, *, labels: int, side_px: int) -> list[Check]:
    """Return every check of the gate with what was measured, most telling first."""
    if measured.non_finite:
        return [Check("outputs that are not finite", measured.non_finite, 0, "values")]
    box_bound, state_bound = SAME * side_px, SAME * max(1.0, measured.state_scale)
    return [
        *_over_windows("decoded boxes", measured.boxes_px, box_bound, "px"),
        *_over_windows("decoded probabilities", measured.probabilities, SAME),
        *_over_windows("states", measured.states, state_bound),
        Check("candidates' scores, max difference", measured.candidate_score_difference, SAME),
        Check("candidates' boxes, max difference", measured.candidate_box_difference_px, box_bound, "px"),
        Check(f"batch 1 against batch {BATCH}", measured.batch_difference, SAME_IN_A_BATCH),
        Check("zeros against no states", measured.beginning_difference, SAME_IN_A_BATCH),
        Check(
            "largest label above the labels known", max(0, measured.largest_label - labels + 1), 0, "labels"
        ),
        quality_check("AP", "ap", measured.before, measured.after, SAME_AP, both_ways=True),
        quality_check("AP50", "ap50", measured.before, measured.after, None, both_ways=True),
    ]


def judge(measured: Measurements, *, labels: int, side_px: int, available: int) -> dict[str, Any]:
    """Return the parity report for the manifest.

    available: held-out recordings that the run has, of which `measured.recordings` were used. Raises
    GateRefused, which names the first number that failed, its bound and what was measured.
    """
    notes = []
    if measured.recordings < FEW_RECORDINGS:
        notes.append(f"only {measured.recordings} held-out recordings: what they do not show is not compared")
    if measured.before.get("ap", 0.0) < 10 * SAME_AP:
        notes.append("the network itself finds next to nothing, so there is little AP that could be lost")
    nothing_to_find = measured.objects == 0 and not measured.non_finite
    return verdict(
        checks(measured, labels=labels, side_px=side_px),
        "fp32",
        {
            "recordings": measured.recordings,
            "recordings_available": available,
            "windows": measured.windows,
            "objects": measured.objects,
            "candidates_compared": measured.candidates_compared,
        },
        notes,
        without_truth=f"the first {measured.windows} windows of the run's {measured.recordings} held-out "
        "recordings hold 0 labelled objects, the least is 1: AP cannot be compared; train with a validation "
        "split that has some"
        if nothing_to_find
        else None,
    )


def _over_windows(what: str, drift: Drift, bound: float, unit: str = "") -> list[Check]:
    """Return the bounded largest difference, and those of the first and last windows to be read."""
    return [
        Check(f"{what}, max difference", drift.largest, bound, unit),
        Check(f"{what}, in first windows", drift.first, None, unit),
        Check(f"{what}, in last windows", drift.last, None, unit),
    ]
