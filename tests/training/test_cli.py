"""`sightline train` and `sightline sweep` as a person types them."""

import json
import os
import re
import signal

import pytest
import yaml
from typer import Typer
from typer.testing import CliRunner

from shared.cli.console import ExitCode
from shared.core.settings import CommonSettings
from training.cli import InterruptControl, train, with_data_found
from training.sweep.cli import sweep


@pytest.fixture
def sightline(tmp_path, monkeypatch):
    """A function from words to the result of the command, with everything under a folder of its own."""
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("SIGHTLINE_MLFLOW_URI", "")
    monkeypatch.setenv("SIGHTLINE_JOBS_URL", "http://127.0.0.1:9")
    app = Typer()
    app.command("train")(train)
    app.command("sweep")(sweep)
    return lambda *words: CliRunner().invoke(app, words)


def test_dry_run_prints_the_resolved_config(sightline):
    result = sightline("train", "person", "data.path=cctv", "model.grid_size=13", "--dry-run")
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["model"]["grid_size"] == 13
    as_json = sightline("train", "person", "data.path=cctv", "--dry-run", "--json")
    assert json.loads(as_json.stdout)["family"] == "person"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["person", "data.path=x", "trainer.max_epoch=1"], ExitCode.USAGE, "trainer.max_epochs"),
        (["persn", "data.path=x"], ExitCode.USAGE, "'person'"),
        ([], ExitCode.USAGE, "name a family"),
        (["person", "data.path=nowhere"], ExitCode.NOT_FOUND, "data.path=nowhere"),
        (["defects", "data.path=x", "trainer.monitor=ap"], ExitCode.USAGE, "There are: macro_f1, map"),
        (["defects", "data.path=x", "model.loss=focall"], ExitCode.USAGE, "'focal'"),
        (["--resume", "nothing"], ExitCode.NOT_FOUND, "unknown run 'nothing'"),
        (["person", "data.path=x", "--name", "../out"], ExitCode.USAGE, "not a plain name"),
        (["person", "data.path=x", "--submit"], ExitCode.UNAVAILABLE, "sightline up"),
    ],
)
def test_mistakes_are_told_with_their_exit_code(sightline, words, code, message):
    result = sightline("train", *words)
    assert result.exit_code == code
    assert message in result.stderr.replace("\n", " ")
    assert result.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        ["--resume", "one", "--name", "two"],
        ["--resume", "one", "--submit"],
        ["--resume", "one", "--recipe", "demo"],
        ["person", "data.path=x", "--submit", "--run-dir", "somewhere"],
    ],
)
def test_options_that_would_have_no_effect_are_refused(sightline, words):
    result = sightline("train", *words)
    assert (result.exit_code, "do not go together" in result.stderr) == (ExitCode.USAGE, True)


def test_a_folder_with_somebody_elses_config_is_left_as_it_is(sightline, toy_overrides, tmp_path):
    (tmp_path / "config.yaml").write_text("mine: true\n")
    result = sightline("train", "person", *toy_overrides, "--run-dir", str(tmp_path))
    assert result.exit_code == ExitCode.FAILURE
    assert "is not the config of a run" in result.stderr
    assert (tmp_path / "config.yaml").read_text() == "mine: true\n"


def test_a_run_is_named_resumed_by_name_and_not_overwritten(sightline, toy_overrides, tmp_path):
    first = sightline("train", "person", *toy_overrides, "trainer.max_epochs=1", "--name", "one", "--json")
    assert first.exit_code == 0, first.stderr
    assert json.loads(first.stdout)["run_dir"] == str(tmp_path / "runs" / "one")
    assert re.search(
        r"^epoch 1/1  loss \S+  val_loss \S+  ap50 \S+  ap \S+  \S+ images/s$", first.stderr, re.M
    )
    again = sightline("train", "person", *toy_overrides, "--name", "one")
    assert (again.exit_code, "--resume one" in again.stderr) == (ExitCode.USAGE, True)
    longer = sightline("train", "--resume", "one", "trainer.max_epochs=2", "--json")
    assert json.loads(longer.stdout)["epochs"] == 2


def test_the_first_ctrl_c_asks_for_a_stop_and_the_second_ends_at_once():
    control = InterruptControl()
    before = signal.getsignal(signal.SIGINT)
    with control.listening():
        assert control.stop_requested() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert control.stop_requested() == "interrupt"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stopped_run_says_how_to_go_on(sightline, toy_overrides, tmp_path, monkeypatch):
    monkeypatch.setattr(InterruptControl, "stop_requested", lambda self: "interrupt")
    result = sightline("train", "person", *toy_overrides, "--name", "one")
    assert result.exit_code == ExitCode.CANCELLED
    assert f"sightline train --resume {tmp_path / 'runs' / 'one'}" in result.stderr.replace("\n", "")


def test_a_sweep_lists_its_points_without_any_service(sightline):
    result = sightline("sweep", "person", "grid_size", "data.path=cctv", "--dry-run", "--json")
    points = json.loads(result.stdout)["points"]
    assert [point["model.grid_size"] for point in points] == ["13", "26", "32", "52"]
    product = sightline(
        *("sweep", "person", "data.path=cctv", "--grid", "model.grid_size=13,26", "--grid", "seed=0,1,2"),
        *("--dry-run", "--json"),
    )
    assert len(json.loads(product.stdout)["points"]) == 6


@pytest.mark.parametrize(
    ("space", "message"),
    [("model.depth=light,bass", "model.depth"), ("schedule.factor=float:0.1:3", "schedule.factor")],
)
def test_a_search_checks_every_choice_and_both_ends(sightline, space, message):
    result = sightline(
        "sweep", "person", "data.path=cctv", "--search", "optuna", "--space", space, "--dry-run"
    )
    assert result.exit_code == ExitCode.USAGE
    assert message in result.stderr


def test_data_that_cannot_be_read_leads_to_the_check(sightline, tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text("")
    result = sightline("train", "person", f"data.path={labels}")
    assert result.exit_code == ExitCode.FAILURE
    assert f"sightline data check {labels}" in result.stderr.replace("\n", "")


def test_weights_that_cannot_be_read_do_not_lead_to_a_check_of_the_data(
    sightline, surface_overrides, tmp_path
):
    weights = tmp_path / "trunk.safetensors"
    weights.write_bytes(b"nothing")
    result = sightline(
        "train", "defects", "--recipe", "light", *surface_overrides, f"model.weights={weights}"
    )
    assert result.exit_code == ExitCode.FAILURE
    assert "is not a safetensors file" in result.stderr.replace("\n", " ")
    assert "data check" not in result.stderr


def test_a_split_file_of_the_current_folder_is_kept_by_its_whole_path(surface_run, tmp_path, monkeypatch):
    data, here = tmp_path / "data", tmp_path / "here"
    data.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    settings = CommonSettings(var_dir=tmp_path, data_root=tmp_path)
    config = surface_run(f"data.path='{data}'", "data.split_file=mine.json")
    (here / "mine.json").touch()
    assert with_data_found(config, settings).data.split_file == str(here / "mine.json")
    (data / "mine.json").touch()
    assert with_data_found(config, settings).data.split_file == "mine.json"  # lies with the data


def test_a_range_without_a_search_is_refused(sightline):
    words = ("--grid", "seed=0,1", "--space", "optimizer.lr=log:1e-5:1e-3", "--dry-run")
    result = sightline("sweep", "person", "data.path=cctv", *words)
    assert (result.exit_code, "--search" in result.stderr) == (ExitCode.USAGE, True)


def test_a_sweep_without_a_service_says_how_to_start_it(sightline):
    result = sightline("sweep", "person", "grid_size", "data.path=cctv")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "sightline up" in result.stderr


def test_a_sweep_is_ranked_by_what_its_task_measures(sightline):
    words = ("sweep", "defects", "loss", "--recipe", "light", "data.path=steel", "--dry-run")
    assert sightline(*words, "--metric", "rare_recall").exit_code == 0
    wrong = sightline(*words, "--metric", "ap50")
    assert (wrong.exit_code, "macro_f1" in wrong.stderr) == (ExitCode.USAGE, True)
