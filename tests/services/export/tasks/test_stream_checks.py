"""The verdict follows from the numbers alone: every bound holds, and what cannot be measured never passes."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.export.problems import GateRefused
from services.export.tasks.stream_checks import judge
from services.export.tasks.stream_measurement import Drift, Measurements, bounded

GOOD = Measurements(
    recordings=6,
    windows=600,
    objects=900,
    boxes_px=Drift(1e-5, 2e-5, 3e-5),
    probabilities=Drift(1e-7, 2e-7, 3e-7),
    states=Drift(1e-6, 2e-6, 4e-6),
    state_scale=0.9,
    candidate_box_difference_px=1e-4,
    candidate_score_difference=1e-6,
    candidates_compared=900,
    largest_label=2,
    before={"ap": 0.5, "ap50": 0.8},
    after={"ap": 0.5, "ap50": 0.8},
)


def verdict(**change: Any) -> dict[str, Any]:
    return judge(replace(GOOD, **change), labels=3, side_px=640, available=9)


def test_a_file_that_agrees_passes_with_its_numbers_and_no_notes() -> None:
    report = verdict()
    assert (report["recordings"], report["recordings_available"], report["windows"]) == (6, 9, 600)
    assert report["notes"] == []
    assert all(check["passed"] for check in report["checks"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes_px": Drift(0, 0, 0.65)}, r"decoded boxes, max difference: 0\.65 px, and fp32 allows 0\.64"),
        ({"boxes_px": Drift(0, 0, math.inf)}, "decoded boxes, max difference: inf px"),
        ({"probabilities": Drift(0, 0, 1.1e-3)}, r"probabilities, max difference: 0\.0011, and"),
        ({"states": Drift(0, 0, 1.1e-3)}, r"states, max difference: 0\.0011, and fp32 allows 0\.001 "),
        ({"states": Drift(0, 0, 9e-3), "state_scale": 8.0}, r"0\.009, and fp32 allows 0\.008"),
        ({"states": Drift(0, 0, math.nan)}, "states, max difference: nan"),
        ({"candidate_score_difference": 0.01}, "candidates' scores"),
        ({"candidate_box_difference_px": 1.0}, "candidates' boxes"),
        ({"batch_difference": 2e-4}, "batch 1 against batch 4"),
        ({"beginning_difference": 2e-4}, "zeros against no states"),
        ({"largest_label": 3}, "largest label above the labels known: 1 labels"),
        ({"non_finite": 3}, "not finite: 3 values"),
        ({"objects": 0}, "0 labelled objects"),
        ({"after": {"ap": 0.4985}}, r"AP difference \(0\.5000 to 0\.4985\): 0\.0015"),
        ({"after": {"ap": 0.5015}}, "AP difference"),
        ({"after": {}}, "AP difference"),
    ],
)  # fmt: skip
def test_what_fails_is_refused_with_the_number_and_the_bound(change: dict[str, Any], words: str) -> None:
    with pytest.raises(GateRefused, match=words) as refusal:
        verdict(**change)
    if "objects" not in change:
        assert "on 6 held-out recordings" in refusal.value.detail


def test_states_that_grew_may_differ_by_their_share() -> None:
    assert verdict(states=Drift(0, 0, 7e-3), state_scale=8.0)["checks"]


def test_few_recordings_and_little_to_lose_are_told() -> None:
    notes = verdict(recordings=2, before={"ap": 0.004}, after={"ap": 0.004})["notes"]
    assert "only 2 held-out recordings" in notes[0]
    assert "next to nothing" in notes[1]


def test_a_difference_that_is_no_number_stays_in_the_drift() -> None:
    drift = Drift()
    for found in (math.nan, 1.0):
        drift.add(found, is_first=False, is_last=True)
    assert math.isnan(drift.largest)
    assert math.isnan(drift.last)
    assert drift.first == 0


def test_coordinates_beyond_the_frame_are_compared_as_shares_of_themselves() -> None:
    boxes = np.array([[-3.0, 160.0, 320.0, 4e14], [5.0, 80.0, -320.0, 4.004e14]], np.float32)
    found = bounded(boxes, 160)
    assert found[0, 0] == -3
    assert found[1, 1] == 80
    assert found[0, 1] == 160  # where one rule takes over from the other
    assert found[0, 2] == -found[1, 2] == pytest.approx(160 * (1 + math.log(2)))
    # a thousandth of itself is a thousandth of the frame: 0.16 px
    assert found[1, 3] - found[0, 3] == pytest.approx(0.16, rel=1e-3)
    assert np.isfinite(bounded(np.array([np.inf], np.float32), 160)).all()
    assert np.isnan(bounded(np.array([np.nan], np.float32), 160)).all()
