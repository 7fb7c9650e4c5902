"""The comparison of runtimes and the untrained version, both real and of the smallest size."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import typer
from typer.testing import CliRunner

from services.export import stream_runtimes, untrained_streams
from services.export.exporter import export_onnx
from services.export.stream_bench import stream_runtimes as command
from services.export.stream_runtimes import Agreement, compare_runtimes
from services.export.untrained_streams import add_untrained_version, main, untrained_graph, windows
from shared.families.events.config import EventsConfig
from shared.repository.repository import ModelRepository

CONFIG = EventsConfig(sensor="custom", height=64, width=80, bins=1, class_names=["a", "b"])


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[str]]:
    """The graph of CONFIG: tracing takes seconds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("untrained") / "model.onnx"
    raw_names = export_onnx(untrained_graph(CONFIG), path)
    torch.set_num_threads(threads)
    return path.read_bytes(), raw_names


@pytest.fixture(autouse=True)
def traced_once(monkeypatch: pytest.MonkeyPatch, file: tuple[bytes, list[str]]) -> None:
    def export(graph: object, path: Path) -> list[str]:
        path.write_bytes(file[0])
        return file[1]

    for module in (stream_runtimes, untrained_streams):
        monkeypatch.setattr(module, "export_onnx", export)


def test_a_version_is_live_remembers_and_finds_something(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path / "repository")
    assert add_untrained_version(repository, "untrained", CONFIG) == 1
    manifest = repository.verify("untrained", repository.resolve("untrained"))
    assert manifest.task == "stream_detection"
    assert len(manifest.states) == 8
    session = onnxruntime.InferenceSession(repository.path("untrained", 1) / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == [output.name for output in manifest.outputs]
    zeros = {spec.name: np.zeros((1, *spec.shape[1:]), np.float32) for spec in manifest.inputs[1:]}
    [window] = windows(CONFIG, 1)
    first = dict(zip(names, session.run(names, {"histograms": window, **zeros}), strict=True))
    carried = {state.input: first[state.output] for state in manifest.states}
    second = dict(zip(names, session.run(names, {"histograms": window, **carried}), strict=True))
    assert (first["scores"] >= manifest.thresholds.score_threshold).any()
    assert np.abs(second["scores"] - first["scores"]).max() > 1e-3


def test_windows_are_the_same_every_time_and_differ_from_each_other() -> None:
    first, second = windows(CONFIG, 2), windows(CONFIG, 2)
    one, other = next(first), next(first)
    assert one.shape == (1, 2, 64, 80)
    assert one.dtype == np.uint8
    assert np.array_equal(one, next(second))
    assert not np.array_equal(one, other)


def test_runtimes_are_run_turn_about_and_agree() -> None:
    steps: list[tuple[str, int, int]] = []
    found = compare_runtimes(
        CONFIG, threads=1, rounds=4, round_windows=3, on_step=lambda *step: steps.append(step)
    )
    assert (found.windows, found.padded_size) == (12, (64, 96))
    assert all(len(rates) == 4 for rates in (found.torch_ms, found.onnx_ms, found.onnx_cpu_ms))
    pairs = sorted(one / other for one, other in zip(found.onnx_ms, found.torch_ms, strict=True))
    assert found.ratio == pytest.approx((pairs[1] + pairs[2]) / 2)
    assert list(found.agreement) == ["window 1", "window 10", "window 12", "largest"]
    assert found.agreement["largest"].states < 1e-4
    assert found.agreement["largest"].boxes_px < 1e-2
    assert steps[-1] == ("running tiny", 4, 4)


def test_a_file_that_forgets_is_seen_in_the_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    real = stream_runtimes.onnx_runner

    def forgetful(session: onnxruntime.InferenceSession):
        run = real(session)
        return lambda inputs: run(
            {name: each if name == "histograms" else np.zeros_like(each) for name, each in inputs.items()}
        )

    monkeypatch.setattr(stream_runtimes, "onnx_runner", forgetful)
    found = compare_runtimes(CONFIG, threads=1, rounds=1, round_windows=3, on_step=lambda *step: None)
    assert found.agreement["window 1"].states < 1e-4
    assert found.agreement["window 3"].states > 1e-2


def test_the_larger_difference_stays_number_by_number() -> None:
    assert Agreement(1, 5, 3).worst(Agreement(2, 4, 6)) == Agreement(2, 5, 6)


def test_the_command_gives_the_report_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(config: EventsConfig, **options: object) -> stream_runtimes.RuntimeComparison:
        made = compare_runtimes(CONFIG, **options)  # type: ignore[arg-type]
        made.size = config.size
        return made

    monkeypatch.setattr(stream_runtimes, "compare_runtimes", compare)
    app = typer.Typer()
    app.command()(command)
    arguments = ["--threads", "1", "--rounds", "1", "--round-windows", "2"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [each["size"] for each in report["runtimes"]] == ["tiny", "base"]
    result = CliRunner().invoke(app, [*arguments, "--size", "small"], env={"COLUMNS": "160"})
    assert "small" in result.stdout
    assert "window 2" in result.stdout


def test_what_cannot_be_made_is_answered_with_the_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ("name", "name huge", "name tiny --sensor gen9", "name tiny --sensor 3x"):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "repository"), *arguments.split()])
        assert "usage: " in capsys.readouterr().err
    assert not (tmp_path / "repository").exists()
