"""`sightline bench` end to end on the tiny model, and the arithmetic of its reports."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.detector.cli.bench import app
from services.detector.cli.bench.serving import Samples, summarise
from services.detector.cli.bench.version import alone_in_a_repository, one_of_each_precision
from shared.repository.repository import ModelRepository


def test_a_serving_report_holds_every_figure(repository: ModelRepository, tmp_path: Path):
    plot = tmp_path / "plot.png"
    result = CliRunner().invoke(
        app,
        [
            "serving", "--model", "tiny:2", "--repository", str(repository.root), "--rounds", "2",
            "--images", "40", "--latency-images", "12", "--starts", "1", "--plot", str(plot), "--json",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["model"], report["version"], report["rounds"]) == ("tiny", 2, 2)
    assert set(report["concurrency"]) == {"1", "8", "16", "32"}
    for figures in report["concurrency"].values():
        assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
        assert figures["images_per_s"]["median"] > 0
    assert report["cpu_ms_per_image"]["bare"]["min"] > 0
    assert report["cpu_ratio"]["median"] > 0
    assert 0 < report["ready_s"]["median"] < 60
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_precision_report_has_a_row_per_version(repository: ModelRepository):
    arguments = ["--rounds", "2", "--images", "8", "--latency-images", "4", "--json"]
    result = CliRunner().invoke(
        app,
        ["precision", "-m", "tiny", "--version", "1", "--version", "trial",
         "--repository", str(repository.root), *arguments],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)["versions"]
    assert [row["version"] for row in rows] == [1, 2]
    assert rows[0]["speedup"] == 1.0
    assert rows[0]["file_bytes"] == (repository.path("tiny", 1) / "model.onnx").stat().st_size


@pytest.mark.parametrize("command", ["serving", "precision"])
def test_tables_are_shown_to_people(repository: ModelRepository, command: str):
    few = ["--rounds", "1", "--images", "16", "--latency-images", "5"]
    few += ["--starts", "1"] if command == "serving" else []
    result = CliRunner().invoke(app, [command, "-m", "tiny", "--repository", str(repository.root), *few])
    assert result.exit_code == 0, result.stderr
    assert "tiny" in result.stdout


@pytest.mark.parametrize("command", ["serving", "precision"])
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["-m", "absent"], 3, "absent"),
        (["-m", "tiny", "--pictures", "no-such-folder"], 2, "no-such-folder"),
        (["-m", "tiny", "--repository", "empty"], 3, "sightline export"),
        (["-m", "tiny", "--rounds", "0"], 2, "rounds"),
    ],
)
def test_wrong_uses_are_explained(
    repository: ModelRepository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    command: str,
    options: list[str],
    code: int,
    said: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTLINE_REPOSITORY_ROOT", str(repository.root))
    result = CliRunner().invoke(app, [command, *options])
    assert result.exit_code == code
    assert said in result.stderr


def test_the_figures_are_medians_over_rounds_of_ratios_and_differences_within_a_round():
    samples = Samples(
        bare_cpu_ms=[10.0, 20.0, 40.0],
        server_cpu_ms=[11.0, 21.0, 48.0],
        bare_images_per_s=[100.0, 50.0, 25.0],
        bare_latencies_ms=[[1.0, 2.0, 9.0], [2.0, 2.0, 2.0], [5.0, 5.0, 5.0]],
        server_latencies_ms={1: [[3.0, 3.0, 3.0], [4.0, 4.0, 4.0], [9.0, 9.0, 9.0]]},
        server_images_per_s={1: [1.0, 2.0, 3.0]},
        ready_s=[1.0],
    )
    report = summarise(samples)
    assert report["cpu_ratio"] == {"median": 1.1, "min": 1.05, "max": 1.2}  # 11/10, 21/20, 48/40
    assert report["added_latency_ms"] == {"median": 2.0, "min": 1.0, "max": 4.0}  # 3-2, 4-2, 9-5
    assert report["latency_ms"]["server"] == {"median": 4.0, "min": 3.0, "max": 9.0}
    assert report["concurrency"]["1"]["p50_ms"] == 4.0


def test_a_version_is_measured_alone_and_live_without_touching_its_repository(repository: ModelRepository):
    before = repository.aliases("tiny")
    with alone_in_a_repository(repository, "tiny", 2) as alone:
        assert alone.versions("tiny") == [2]
        assert alone.resolve("tiny") == 2
        root = alone.root
    assert not root.exists()
    assert repository.aliases("tiny") == before


def test_the_newest_version_of_each_precision_is_taken(repository: ModelRepository):
    assert one_of_each_precision(repository, "tiny") == [2]
