"""The verdict follows from the numbers alone: every bound holds, and what cannot be measured never passes."""

import math
from dataclasses import replace

import pytest

from services.export.problems import GateRefused
from services.export.tasks.detection_checks import judge
from services.export.tasks.detection_measurement import Measurements

GOOD = Measurements(
    pictures=100,
    objects=300,
    raw_difference=1e-6,
    score_difference=1e-6,
    box_difference_px=1e-4,
    candidates_compared=900,
    batch_difference=0.0,
    largest_label=0,
    before={"ap": 0.5, "ap50": 0.8},
    after={"ap": 0.5, "ap50": 0.8},
)


def verdict(measured: Measurements, precision: str = "fp32", *, end_to_end: bool = False) -> dict:
    return judge(
        measured,
        precision,  # type: ignore[arg-type]
        labels=1,
        image_side_px=416,
        available=120,
        end_to_end=end_to_end,
    )


def test_a_file_that_agrees_passes_with_its_numbers_and_no_notes() -> None:
    report = verdict(GOOD)
    assert (report["pictures"], report["pictures_available"], report["notes"]) == (100, 120, [])
    assert all(check["passed"] for check in report["checks"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"raw_difference": 1.1e-3}, r"raw outputs, max difference: 0\.0011, and fp32 allows 0\.001"),
        ({"raw_difference": math.nan}, "raw outputs, max difference: nan"),
        ({"score_difference": 0.01}, "scores, max difference"),
        ({"box_difference_px": 0.42}, r"boxes, max difference: 0\.42 px, and fp32 allows 0\.416"),
        ({"box_difference_px": math.inf}, "boxes, max difference: inf px"),
        ({"batch_difference": 2e-4}, "batch 1 against batch N"),
        ({"largest_label": 1}, "largest label above the labels known: 1 labels"),
        ({"non_finite": 3}, "not finite: 3 values"),
        ({"objects": 0}, "0 labelled objects"),
        ({"after": {"ap": 0.4985, "ap50": 0.8}}, r"AP difference \(0\.5000 to 0\.4985\): 0\.0015"),
        ({"after": {"ap": 0.5015, "ap50": 0.8}}, "AP difference"),
        ({"after": {}}, "AP difference"),
    ],
)
def test_fp32_is_refused_with_the_number_the_bound_and_the_pictures(change: dict, words: str) -> None:
    with pytest.raises(GateRefused, match=words) as caught:
        verdict(replace(GOOD, **change))
    assert caught.value.report["pictures"] == 100


@pytest.mark.parametrize(("precision", "loss"), [("fp32", 0.001), ("fp16", 0.005), ("int8", 0.01)])
def test_the_ap_that_may_be_lost_grows_with_what_the_precision_gives_up(precision: str, loss: float) -> None:
    verdict(replace(GOOD, after={"ap": 0.5 - 0.9 * loss, "ap50": 0.8}), precision)
    with pytest.raises(GateRefused, match="AP"):
        verdict(replace(GOOD, after={"ap": 0.5 - 1.1 * loss, "ap50": 0.8}), precision)


def test_reduced_precision_may_move_outputs_and_may_gain_ap() -> None:
    moved = replace(GOOD, raw_difference=0.2, score_difference=0.2, after={"ap": 0.53, "ap50": 0.8})
    report = verdict(moved, "int8")
    assert report["checks"][0]["bound"] is None
    assert report["checks"][0]["measured"] == 0.2


def test_suppression_is_judged_only_where_it_is_inside() -> None:
    wrong = replace(GOOD, suppression_mismatches=1)
    verdict(wrong)
    with pytest.raises(GateRefused, match=r"suppression differs from shared\.vision\.nms: 1 pictures"):
        verdict(wrong, end_to_end=True)


def test_too_few_pictures_and_a_network_that_finds_nothing_are_said() -> None:
    notes = verdict(replace(GOOD, pictures=12))["notes"]
    assert "only 12 held-out pictures" in notes[0]
    poor = replace(GOOD, before={"ap": 0.002}, after={"ap": 0.002})
    assert "next to nothing" in verdict(poor)["notes"][0]


def test_the_first_of_several_failures_is_named_and_the_rest_counted() -> None:
    with pytest.raises(GateRefused, match=r"raw outputs.*2 more checks failed"):
        verdict(replace(GOOD, raw_difference=1, batch_difference=1, largest_label=5))
