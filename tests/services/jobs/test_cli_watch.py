"""What `sightline jobs watch` shows beside its bar and at the end."""

from typing import Any

import pytest

from services.jobs import cli_watch


def test_beside_the_bar_stand_the_figures_that_are_followed_by_eye() -> None:
    epoch: dict[str, Any] = {"best": True, "epoch": 2, "max_epochs": 9, "lr": 0.1, "loss": 3.0, "ap50": 0.5}
    assert cli_watch._few_figures(epoch) == "epoch 2/9  loss 3  ap50 0.5"
    assert cli_watch._few_figures({"pictures": 4, "at": "now"}) == "pictures 4"


def test_the_end_tells_the_metrics_and_where_the_rest_is(capsys: pytest.CaptureFixture[str]) -> None:
    result = {"run_id": "r", "metrics": {"ap50": 0.5, "ar": 0.25}, "versions": [1]}
    cli_watch._tell_end({"id": "j1", "state": "succeeded", "result": result})
    told = capsys.readouterr().err
    assert "run_id r  ap50 0.5\n" in told
    assert "sightline jobs show j1" in told
