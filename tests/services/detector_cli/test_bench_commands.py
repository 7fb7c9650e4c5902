"""`sightline bench` end to end on the tiny model, and what it says to wrong uses."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from services.detector.cli.bench import overload, tuning
from services.detector.cli.bench.commands import app
from services.detector.cli.bench.model import alone_in_a_repository, one_of_each_precision
from services.detector.cli.bench.peers.catalogue import PEERS
from services.detector.settings import DetectorSettings
from shared.repository.repository import ModelRepository
from tests.fixtures.tiny_detection_model import TinyModel, tiny_repository
from tests.services.detector_cli.videos import write_picture


@pytest.fixture(autouse=True)
def own_var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path / "var"))


def test_serving_measures_the_detector_beside_the_plain_app_and_the_bare_loops(
    repository: ModelRepository, tmp_path: Path
):
    plot, file = tmp_path / "plot.png", tmp_path / "reports" / "serving.json"
    result = CliRunner().invoke(
        app,
        [
            "serving", "--model", "tiny:2", "--repository", str(repository.root), "--rounds", "1",
            "--seconds", "0.3", "--concurrency", "1", "--concurrency", "4",
            "--only", "sightline", "--only", "fastapi", "--plot", str(plot), "--report", str(file), "--json",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert json.loads(file.read_text()) == report
    assert (report["model"], report["version"], report["rounds"]) == ("tiny", 2, 1)
    assert report["left_out"] == {}
    assert list(report["sides"]) == ["sightline", "fastapi"]
    for side in report["sides"].values():
        assert list(side["concurrency"]) == ["1", "4"]
        assert 0 < side["ready_s"]["median"] < 60
        assert side["resident_mib"]["median"] > 30
        for load in side["concurrency"].values():
            assert 0 < load["p50_ms"] <= load["p95_ms"] <= load["p99_ms"]
            assert load["images_per_s"]["median"] > 0
            assert load["cpu_ms"]["median"] > 0
            assert (load["refused"], load["failed"]) == (0, 0)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_peer_that_is_not_installed_is_left_out_with_the_command_that_installs_it(
    repository: ModelRepository,
):
    result = CliRunner().invoke(
        app,
        [
            "serving", "-m", "tiny", "--repository", str(repository.root), "--rounds", "1", "--without-model",
            "--seconds", "0.2", "--concurrency", "2", "--only", "fastapi", "--only", "litserve",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "sightline bench peers install litserve" in result.stderr
    assert "plain FastAPI" in result.stdout
    assert "LitServe" not in result.stdout


def test_peers_are_listed_with_their_state():
    result = CliRunner().invoke(app, ["peers", "list"])
    assert result.exit_code == 0
    assert all(peer.title in result.stdout for peer in PEERS.values())
    assert "not installed" in result.stdout


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


def test_a_precision_table_is_shown_to_people(repository: ModelRepository):
    few = ["--rounds", "1", "--images", "4", "--latency-images", "2"]
    result = CliRunner().invoke(app, ["precision", "-m", "tiny", "--repository", str(repository.root), *few])
    assert result.exit_code == 0, result.stderr
    assert "tiny" in result.stdout


def test_versions_are_swapped_without_a_failed_request_or_a_mixed_answer(
    bright_pictures: Path, tmp_path: Path
):
    source = tiny_repository(tmp_path)
    result = CliRunner().invoke(
        app,
        ["swaps", "-m", "tiny", "--repository", str(source.root), "--pictures", str(bright_pictures),
         "--count", "3", "--concurrency", "4", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["swaps"], report["failed"], report["mixed"]) == (3, 0, 0)
    assert set(report["answers_by_version"]) == {"1", "2"}
    assert sum(report["answers_by_version"].values()) == report["requests"]
    assert source.versions("tiny") == [1]  # the second version was made elsewhere


def test_answers_in_company_are_those_given_alone(bright_pictures: Path, repository: ModelRepository):
    result = CliRunner().invoke(
        app,
        ["company", "-m", "tiny", "--repository", str(repository.root), "--pictures", str(bright_pictures),
         "--requests", "30", "--concurrency", "8", "--max-batch", "4", "--json"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["requests"], report["wrong"], report["exchanged"]) == (30, {}, 0)
    assert report["settings"]["SIGHTLINE_DETECTOR_MAX_BATCH"] == "4"


def test_pictures_without_detections_cannot_show_an_exchange(repository: ModelRepository, tmp_path: Path):
    (tmp_path / "dark").mkdir()
    write_picture(tmp_path / "dark" / "0.jpg", np.zeros((96, 96, 3), np.uint8))
    arguments = ["-m", "tiny", "--repository", str(repository.root), "--pictures", str(tmp_path / "dark")]
    result = CliRunner().invoke(app, ["company", *arguments, "--requests", "20"])
    assert result.exit_code == 1
    assert "missed" in result.stdout
    result = CliRunner().invoke(app, ["swaps", *arguments, "--count", "1"])
    assert result.exit_code == 1
    assert "finds nothing in 1 of 1 pictures" in result.stderr


def test_an_overload_is_measured_from_saturation_to_recovery(
    bright_pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(overload, "LONE_S", 0.3)
    monkeypatch.setenv("SIGHTLINE_DETECTOR_QUEUE_SIZE", "8")
    slow = tiny_repository(tmp_path, model=TinyModel(matmuls=4))
    result = CliRunner().invoke(
        app,
        ["overload", "-m", "tiny", "--repository", str(slow.root), "--pictures", str(bright_pictures),
         "--seconds", "1", "--json"],
    )  # fmt: skip
    assert result.exit_code in (0, 1), result.stderr  # whether aims are met is for a quiet machine
    report = json.loads(result.stdout)
    assert report["settings"]["SIGHTLINE_DETECTOR_QUEUE_SIZE"] == "8"
    assert report["saturated_per_s"] > 0
    assert set(report["statuses"]) == {"200", "429"}
    assert report["refused"] == report["statuses"]["429"]
    assert report["refused_without_retry_after"] == 0
    assert report["resident_peak_mib"] > 30
    assert report["recovery_s"] is not None


def test_tuning_writes_what_a_detector_reads(
    repository: ModelRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    only = tuning.Candidate((("intra_op_threads", 1), ("instances", 3)))
    monkeypatch.setattr(tuning, "thread_candidates", lambda _: [only])
    monkeypatch.setattr(tuning, "batch_candidates", lambda best, _: [best])
    monkeypatch.setattr(tuning, "WARM_UP_S", 0.1)
    few = ["--rounds", "1", "--seconds", "0.1"]
    arguments = ["tune", "-m", "tiny", "--repository", str(repository.root), *few]
    tuned = tmp_path / "var" / "detector.env"
    result = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert result.exit_code == 0, result.stderr
    assert "SIGHTLINE_DETECTOR_INSTANCES=3" in result.stdout
    assert not tuned.exists()
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    assert tuned.read_text() in result.stdout
    assert DetectorSettings().instances == 3
    monkeypatch.setenv("SIGHTLINE_DETECTOR_INSTANCES", "1")
    assert DetectorSettings().instances == 1  # the environment stands above the file


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["serving", "-m", "absent"], 3, "absent"),
        (["precision", "-m", "absent"], 3, "absent"),
        (["serving", "-m", "tiny", "--pictures", "no-such-folder"], 2, "no-such-folder"),
        (["overload", "-m", "tiny", "--repository", "empty"], 3, "--untrained"),
        (["precision", "-m", "tiny", "--rounds", "0"], 2, "rounds"),
        (["serving", "-m", "tiny", "--only", "flask"], 2, "litserve"),
        (["serving", "-m", "tiny", "--int8-version", "2"], 2, "--precision int8"),
        (["serving", "--untrained", "huge"], 2, "deep"),
        (["tune", "-m", "tiny", "--for", "fun"], 2, "balanced"),
        (["peers", "install", "flask"], 2, "rayserve"),
    ],
)
def test_wrong_uses_are_explained(
    repository: ModelRepository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIGHTLINE_REPOSITORY_ROOT", str(repository.root))
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code
    assert said in result.stderr


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
