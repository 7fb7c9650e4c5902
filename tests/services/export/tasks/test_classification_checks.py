"""The verdict on a classifier follows from the numbers alone."""

import math
from dataclasses import replace

import pytest

from services.export.problems import GateRefused
from services.export.tasks.classification_checks import judge
from services.export.tasks.classification_measurement import Measurements

GOOD = Measurements(
    pictures=100,
    positives=80,
    logit_difference=1e-5,
    probability_difference=1e-6,
    map_difference=1e-4,
    map_scale=20.0,
    map_mean_difference=1e-5,
    decisions=400,
    agreed=398,
    before={"macro_f1": 0.8, "map": 0.9, "macro_auroc": 0.95},
    after={"macro_f1": 0.8, "map": 0.9, "macro_auroc": 0.95},
)


def verdict(measured: Measurements, precision: str = "fp32", note: str | None = None) -> dict:
    return judge(measured, precision, available=120, note=note)  # type: ignore[arg-type]


def test_a_file_that_agrees_passes_with_its_numbers_and_no_notes() -> None:
    report = verdict(GOOD)
    assert (report["pictures"], report["pictures_available"], report["notes"]) == (100, 120, [])
    assert (report["labels_present"], report["labels_decided"], report["agreement"]) == (80, 400, 0.995)
    assert all(check["passed"] for check in report["checks"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logit_difference": 1.1e-3}, r"logits, max difference: 0\.0011, and fp32 allows 0\.001"),
        ({"logit_difference": math.nan}, "logits, max difference: nan"),
        ({"probability_difference": 2e-3}, "probabilities, max difference"),
        ({"map_difference": 0.021}, r"activation maps, max difference: 0\.021, and fp32 allows 0\.02"),
        ({"map_mean_difference": 2e-3}, "mean of a map against its logit"),
        ({"batch_difference": 2e-4}, "batch 1 against batch N"),
        ({"non_finite": 3}, "not finite: 3 values"),
        ({"positives": 0}, "0 labels, the least is 1"),
        ({"after": {"macro_f1": 0.7985}}, r"macro-F1 difference \(0\.8000 to 0\.7985\): 0\.0015"),
        ({"after": {"macro_f1": 0.8015}}, "macro-F1 difference"),
        ({"after": {}}, "macro-F1 difference"),
    ],
)
def test_fp32_is_refused_with_the_number_and_the_bound(change: dict, words: str) -> None:
    with pytest.raises(GateRefused, match=words) as caught:
        verdict(replace(GOOD, **change))
    assert caught.value.report["pictures"] == 100


@pytest.mark.parametrize(("precision", "loss"), [("fp32", 0.001), ("fp16", 0.005), ("int8", 0.01)])
def test_the_f1_that_may_be_lost_grows_with_what_the_precision_gives_up(precision: str, loss: float) -> None:
    verdict(replace(GOOD, after={"macro_f1": 0.8 - 0.9 * loss}), precision)
    with pytest.raises(GateRefused, match="macro-F1"):
        verdict(replace(GOOD, after={"macro_f1": 0.8 - 1.1 * loss}), precision)


def test_reduced_precision_may_move_outputs_and_may_gain_f1() -> None:
    moved = replace(GOOD, logit_difference=0.4, probability_difference=0.1, after={"macro_f1": 0.85})
    report = verdict(moved, "int8")
    assert report["checks"][0]["bound"] is None
    assert report["checks"][0]["measured"] == 0.4


def test_few_pictures_a_poor_network_and_missing_thresholds_are_said() -> None:
    notes = verdict(replace(GOOD, pictures=12), note="the run has no thresholds.json")["notes"]
    assert notes[0] == "the run has no thresholds.json"
    assert "only 12 held-out pictures" in notes[1]
    poor = replace(GOOD, before={"macro_f1": 0.002}, after={"macro_f1": 0.002})
    assert "next to nothing" in verdict(poor)["notes"][0]
