"""Bootstrap intervals: the known spread of a mean, groups drawn whole, and what cannot be had."""

import numpy as np
import pytest

from shared.metrics.bootstrap import bootstrap_interval
from shared.metrics.ranking import auroc


def test_the_interval_of_a_mean_has_the_width_of_its_standard_error():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    low, high = bootstrap_interval(np.mean, values, repeats=2000)
    half_width = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.03)


def test_a_lower_level_is_narrower_and_a_seed_repeats():
    values = np.random.default_rng(0).normal(size=50)
    wide, again = (bootstrap_interval(np.mean, values, repeats=300, seed=4) for _ in range(2))
    narrow = bootstrap_interval(np.mean, values, repeats=300, seed=4, level=0.5)
    assert wide == again
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval(np.mean, values, repeats=300, seed=5) != wide


def test_copies_in_a_group_count_as_one_observation():
    values = np.random.default_rng(1).normal(size=40)
    single = bootstrap_interval(np.mean, values, repeats=1000)
    copies, groups = np.repeat(values, 25), np.repeat(np.arange(40), 25)
    grouped = bootstrap_interval(np.mean, copies, groups=groups, repeats=1000)
    assert grouped == pytest.approx(single, abs=1e-12)  # the same draws of the same groups
    ungrouped = bootstrap_interval(np.mean, copies, repeats=1000)
    assert ungrouped[1] - ungrouped[0] < (grouped[1] - grouped[0]) / 3


def test_rows_of_all_arrays_are_drawn_together():
    a = np.arange(30.0)
    assert bootstrap_interval(lambda x, y: float(np.abs(y - 2 * x).max()), a, 2 * a, repeats=50) == (0, 0)


def test_resamples_without_a_value_are_left_out():
    scores, labels = np.linspace(0, 1, 12), np.arange(12) >= 10
    low, high = bootstrap_interval(auroc, scores, labels, repeats=500)
    assert (low, high) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ((np.zeros(3), np.zeros(4)), {}, "same number"),
        ((np.zeros(1),), {}, "at least two"),
        ((np.zeros(0),), {}, "at least two"),
        ((np.zeros(5),), {"groups": ["a"] * 5}, "at least two"),
        ((np.zeros(5),), {"groups": ["a"]}, "1 groups came for 5 rows"),
        ((np.zeros(5),), {"level": 1.0}, "level"),
    ],
)
def test_what_has_no_interval_is_refused(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(lambda *rows: 0.0, *arrays, **options)


def test_a_statistic_that_seldom_has_a_value_is_refused():
    with pytest.raises(ValueError, match="too few rows or groups"):
        bootstrap_interval(auroc, np.linspace(0, 1, 9), np.zeros(9, bool), repeats=20)
