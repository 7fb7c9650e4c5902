"""`sightline import events`: published checkpoints become run folders, or are refused whole."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from click.testing import Result
from safetensors.torch import load_file
from typer.testing import CliRunner

from services.export.runs import list_runs, read_run
from shared.families.cli import app
from shared.families.events.config import EventsConfig
from shared.families.events.network import RVT
from shared.families.registry import get_family

Run = Callable[..., Result]


@pytest.fixture
def run_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path / "var"))
    assert isinstance(app, typer.Typer)
    return lambda *arguments: CliRunner().invoke(app, ["events", *map(str, arguments)])


def checkpoint(path: Path, prefix: str = "mdl.", *, whole: bool = True, **options: object) -> dict:
    """Write what Lightning writes, of a network with random weights; return its tensors."""
    torch.manual_seed(3)
    state = RVT(EventsConfig.model_validate(options)).state_dict()
    content = {prefix + name: tensor for name, tensor in state.items()}
    torch.save({"state_dict": content, "global_step": 400_000} if whole else content, path)
    return state


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("options", "size", "sensor", "classes", "parameters"),
    [
        ({}, "tiny", "gen1", ["car", "pedestrian"], 4_405_141),
        (
            {"size": "small", "sensor": "gen4"},
            "small",
            "gen4",
            ["pedestrian", "two-wheeler", "car"],
            9_870_456,
        ),
        ({"size": "base"}, "base", "gen1", ["car", "pedestrian"], 18_536_469),
    ],
    ids=["tiny gen1", "small gen4", "base gen1"],
)  # fmt: skip
def test_size_sensor_and_classes_are_known_from_the_tensors(
    run_import: Run, tmp_path: Path, options: dict, size: str, sensor: str, classes: list, parameters: int
):
    checkpoint(tmp_path / "rvt.ckpt", **options)
    result = run_import("--from", "rvt.ckpt", "--json", "--dry-run")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    found = (summary["size"], summary["sensor"], summary["classes"], summary["parameters"])
    assert found == (size, sensor, classes, parameters)  # parameters: specs/events.md section 1
    assert summary["written"] is False
    assert not (tmp_path / "var").exists()


@pytest.mark.parametrize(("prefix", "whole"), [("mdl.", True), ("", True), ("mdl.", False), ("", False)])
def test_the_run_holds_the_very_weights_and_can_be_read_as_any_run(
    run_import: Run, tmp_path: Path, prefix: str, whole: bool
):
    state = checkpoint(tmp_path / "rvt-t.ckpt", prefix, whole=whole)
    result = run_import("--from", "rvt-t.ckpt", "--data", "gen1_frames")
    assert result.exit_code == 0, result.stderr
    folder = tmp_path / "var/runs/events-rvt-t"
    assert same(load_file(folder / "weights.safetensors"), state)
    run = read_run(folder)
    assert run.labels == ["car", "pedestrian"]
    assert (run.config.family, run.config.recipe, run.config.data.path) == (
        "events",
        "imported",
        "gen1_frames",
    )
    family = get_family("events")
    network = family.build(family.config(**run.config.model))
    network.load_state_dict(load_file(run.weights), strict=True)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    (listed,) = list_runs(tmp_path / "var/runs")
    assert (listed["run_id"], listed["exportable"]) == ("events-rvt-t", True)
    assert str(folder) in result.stdout


def test_classes_may_be_named_and_a_sensor_stated(run_import: Run, tmp_path: Path):
    checkpoint(tmp_path / "rvt.ckpt", sensor="gen4")
    result = run_import("--from", "rvt.ckpt", "--sensor", "etram", "--classes", "etram3", "--out", "run")
    assert result.exit_code == 0, result.stderr
    assert read_run(tmp_path / "run").labels == ["pedestrian", "vehicle", "micro-mobility"]
    assert read_run(tmp_path / "run").config.model["sensor"] == "etram"
    assert json.loads((tmp_path / "run/import.json").read_text())["source"] == "rvt.ckpt"


def test_a_wrong_size_is_refused_with_the_first_mismatch(run_import: Run, tmp_path: Path):
    checkpoint(tmp_path / "rvt.ckpt")
    result = run_import("--from", "rvt.ckpt", "--size", "base", "--out", "run")
    assert result.exit_code == 1
    # The first tensor: 32 channels in RVT-T, 64 in RVT-B, of 20 channels by a kernel of 7 (section 3).
    stem = "backbone.stages.0.downsample_cf2cl.conv.weight"
    assert f"the first mismatch is {stem}, [32, 20, 7, 7] there and [64, 20, 7, 7] here" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--classes", "car,bus,tram"), "tells 2 classes apart, and 3 are named"),
        (("--sensor", "gen4"), "gen4 has 3; name them with --classes"),
        (("--classes", "gen2"), "no class list is called 'gen2'"),
    ],
    ids=["three names", "another sensor", "no list"],
)
def test_classes_that_are_not_the_files_are_usage_errors(
    run_import: Run, tmp_path: Path, options: tuple[str, ...], said: str
):
    checkpoint(tmp_path / "rvt.ckpt")
    result = run_import("--from", "rvt.ckpt", "--out", "run", *options)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not (tmp_path / "run").exists()


def test_as_many_classes_as_no_sensor_has_need_both_stated(run_import: Run, tmp_path: Path):
    checkpoint(tmp_path / "rvt.ckpt", num_classes=5)
    result = run_import("--from", "rvt.ckpt")
    assert result.exit_code == 2
    assert "give --sensor and --classes" in result.stderr
    stated = ("--sensor", "gen1", "--classes", "a,b,c,d,e", "--out", "run")
    assert run_import("--from", "rvt.ckpt", *stated).exit_code == 0
    assert read_run(tmp_path / "run").labels == list("abcde")


def test_an_existing_folder_stays_as_it_is(run_import: Run, tmp_path: Path):
    checkpoint(tmp_path / "rvt.ckpt")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/mine.txt").write_text("keep me")
    result = run_import("--from", "rvt.ckpt", "--out", "run")
    assert result.exit_code == 2
    assert "exists; it stays as it is" in result.stderr
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]


def test_a_file_that_is_no_rvt_or_not_there_is_told(run_import: Run, tmp_path: Path):
    torch.save({"state_dict": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.ckpt")
    (tmp_path / "text.ckpt").write_text("no tensors")
    other = run_import("--from", "other.ckpt")
    assert (other.exit_code, "no RVT checkpoint" in other.stderr) == (1, True)
    text = run_import("--from", "text.ckpt")
    assert (text.exit_code, "not a" in text.stderr) == (1, True)
    assert run_import("--from", "none.ckpt").exit_code == 3
    assert not (tmp_path / "var").exists()


def test_a_disk_that_is_full_leaves_nothing(run_import: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint(tmp_path / "rvt.ckpt")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shared.families.events.published.save_file", full)
    result = run_import("--from", "rvt.ckpt", "--out", "run")
    assert result.exit_code == 1
    assert "No space left" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["rvt.ckpt"]
