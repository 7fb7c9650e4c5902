"""A run beside the one that it is compared with."""

import json

import pytest

from training.baseline import compare_with_baseline, read_baseline
from training.errors import BaselineUnusable
from training.run_folder import RunFolder


def metrics(run_id, ap, **more):
    return {"run_id": run_id, "val": {"ap": ap, "ap_large": None}, "data_hash": {"val": "a"}, **more}


def test_the_gain_is_on_the_split_that_both_have_and_on_numbers_that_both_have():
    own = metrics("new", 0.75, test={"ap": 0.5}, data_hash={"val": "b", "test": "c"})
    compared = compare_with_baseline(own, metrics("old", 0.5))
    assert compared == {
        "run_id": "old", "split": "val", "same_data": False, "numbers": {"ap": 0.5}, "gain": {"ap": 0.25}
    }  # fmt: skip
    old = metrics("old", 0.5, test={"ap": 0.25}, data_hash={"test": "c"})
    compared = compare_with_baseline(own, old)
    assert (compared["split"], compared["same_data"], compared["gain"]) == ("test", True, {"ap": 0.25})


def test_a_baseline_lies_beside_the_run_and_is_complete(toy_run, tmp_path):
    folder = RunFolder(tmp_path / "new")
    assert read_baseline(toy_run(), folder) is None
    config = toy_run("tracking.baseline=old", "tracking.hypothesis='smaller cells find more'")
    with pytest.raises(BaselineUnusable, match=r"baseline=old: .*name a complete run"):
        read_baseline(config, folder)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "metrics.json").write_text("{}")
    with pytest.raises(BaselineUnusable):
        read_baseline(config, folder)
    (tmp_path / "old" / "metrics.json").write_text(json.dumps(metrics("old", 0.5)))
    assert read_baseline(config, folder)["run_id"] == "old"
