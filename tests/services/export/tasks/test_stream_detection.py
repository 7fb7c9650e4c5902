"""A stream model becomes a version that remembers what the network remembers; what does not is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer
from onnx import helper, numpy_helper
from typer.testing import CliRunner

from services.export import pipeline
from services.export.cli import export
from services.export.exporter import export_onnx
from services.export.pipeline import ExportRequest, export_run
from services.export.problems import GateRefused, IncompleteRun, UnsupportedOption
from services.export.runs import Run
from services.export.tasks.stream_graph import StreamGraph
from shared.families.events.family import EVENTS
from shared.repository import ModelRepository
from shared.repository.manifest import EventPreprocessing, Manifest
from shared.repository.triton_config_reader import read_model_config
from tests.services.export.tasks.stream_run import (
    BINS,
    HEIGHT,
    NAMES,
    WIDTH,
    WINDOWS,
    frames_of,
    stream_config,
    stream_network,
    write_recordings,
    write_run,
)

Change = Callable[[onnx.GraphProto], None]
STATES = ["h0", "c0", "h1", "c1", "h2", "c2", "h3", "c3"]


def check(parity: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [each for each in parity["checks"] if each["name"].startswith(name)]
    return found


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("streams-data")
    write_recordings(root / "frames")
    return root


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Run:
    return write_run(tmp_path_factory.mktemp("streams-runs") / "stream-run", data="frames")


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The run's graph as an ONNX file, and the names of its raw outputs: tracing takes seconds."""
    path = tmp_path_factory.mktemp("streams-traced") / "model.onnx"
    return path, export_onnx(StreamGraph(EVENTS, stream_config(), stream_network()), path)


@pytest.fixture
def from_trace(monkeypatch: pytest.MonkeyPatch, traced: tuple[Path, list[str]]) -> Callable[[Change], None]:
    """Let the pipeline take the one traced file, after a change, in place of tracing again."""

    def use(change: Change) -> None:
        def export(graph: Any, path: Path) -> list[str]:
            model = onnx.load(traced[0])
            change(model.graph)
            onnx.save_model(model, path)
            return traced[1]

        monkeypatch.setattr(pipeline, "export_onnx", export)

    return use


@pytest.fixture
def version(
    from_trace: Callable[[Change], None], run: Run, data_root: Path, tmp_path: Path
) -> tuple[ModelRepository, Manifest]:
    from_trace(lambda graph: None)
    repository = ModelRepository(tmp_path / "repository")
    number = export_run(ExportRequest(run, "streams"), repository, data_root).version
    return repository, repository.verify("streams", number)


def test_the_manifest_says_how_windows_are_made_and_what_is_carried(
    version: tuple[ModelRepository, Manifest],
) -> None:
    _, manifest = version
    assert (manifest.task, manifest.family, manifest.precision) == ("stream_detection", "events", "fp32")
    assert manifest.preprocessing == EventPreprocessing(
        representation="stacked_histogram",
        bins=BINS,
        window_ms=50,
        sensor_height=HEIGHT,
        sensor_width=WIDTH,
        halved=False,
        height=HEIGHT,
        width=WIDTH,
    )
    assert [(state.input, state.output) for state in manifest.states] == [
        (f"state_{name}", f"next_{name}") for name in STATES
    ]
    first, *states = manifest.inputs
    assert (first.name, first.dtype, first.shape) == ("histograms", "uint8", [-1, 2 * BINS, HEIGHT, WIDTH])
    # 40 × 60 is padded to 64 × 64; RVT-T has 32 channels at stride 4, and twice as many at half the size.
    shapes = [[-1, 32 * 2**stage, 16 >> stage, 16 >> stage] for stage in range(4) for _ in "hc"]
    assert [state.shape for state in states] == shapes
    candidates = 8 * 8 + 4 * 4 + 2 * 2  # cells at strides 8, 16 and 32, fewer than top_k
    assert [(output.name, output.dtype, output.shape) for output in manifest.outputs[:4]] == [
        ("boxes", "float32", [-1, candidates, 4]),
        ("scores", "float32", [-1, candidates]),
        ("labels", "int64", [-1, candidates]),
        ("class_probabilities", "float32", [-1, candidates]),
    ]
    assert manifest.labels == NAMES
    assert manifest.thresholds.model_dump() == EVENTS.default_thresholds(stream_config())
    assert manifest.data_hash


def test_the_parity_report_follows_the_drift(version: tuple[ModelRepository, Manifest]) -> None:
    parity = version[1].parity
    assert all(each["passed"] for each in parity["checks"])
    assert (parity["recordings"], parity["recordings_available"]) == (2, 2)
    assert parity["windows"] == sum(WINDOWS.values())
    assert parity["objects"] > 8
    assert parity["candidates_compared"] > 20
    for what in ("decoded boxes", "decoded probabilities", "states"):
        largest = check(parity, f"{what}, max")["measured"]
        assert largest >= check(parity, f"{what}, in last")["measured"] > 0
    # The bound is a tenth of a point, so the labels have to leave much more that could be lost.
    assert version[1].metrics.before["ap"] > 100 * check(parity, "AP ")["bound"]


def test_triton_carries_the_states_itself(version: tuple[ModelRepository, Manifest]) -> None:
    repository, _ = version
    config = read_model_config(repository.root / "streams" / "config.pbtxt")
    assert [tensor["name"] for tensor in config["input"]] == ["histograms"]
    assert len(config["sequence_batching"]["state"]) == len(STATES)


def test_the_file_follows_a_stream_as_the_network_does(version: tuple[ModelRepository, Manifest]) -> None:
    repository, manifest = version
    session = onnxruntime.InferenceSession(repository.path("streams", manifest.version) / "model.onnx")
    names = [output.name for output in session.get_outputs()]
    assert names == [output.name for output in manifest.outputs]  # the raw output is hidden
    network, states = stream_network(), None
    carried = {spec.name: np.zeros((1, *spec.shape[1:]), np.float32) for spec in manifest.inputs[1:]}
    for window in range(WINDOWS["a"]):
        histograms = frames_of("a")[window][None]
        with torch.inference_mode():
            decoded, states = network.step(torch.from_numpy(histograms), states)
        answer = dict(zip(names, session.run(names, {"histograms": histograms, **carried}), strict=True))
        carried = {state.input: answer[state.output] for state in manifest.states}
        flat = [tensor.numpy() for pair in states for tensor in pair]
        for name, expected in zip(STATES, flat, strict=True):
            np.testing.assert_allclose(answer[f"next_{name}"], expected, atol=1e-4, rtol=0)
        score = (decoded[0, :, 4:5] * decoded[0, :, 5:]).max(dim=1)
        best = int(score.values.argmax())
        x, y, w, h = decoded[0, best, :4].tolist()
        corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        np.testing.assert_allclose(answer["boxes"][0, 0], corners, atol=1e-3)
        assert answer["scores"][0, 0] == pytest.approx(float(score.values[best]), abs=1e-5)
        assert answer["labels"][0, 0] == int(decoded[0, best, 5:].argmax())
        assert answer["class_probabilities"][0, 0] == pytest.approx(
            float(decoded[0, best, 5:].max()), abs=1e-5
        )


# What must be refused. Each breaks the file after it was traced, as a fault of an exporter would.


@pytest.fixture
def refused(
    from_trace: Callable[[Change], None], run: Run, data_root: Path, tmp_path: Path
) -> Callable[[Change], GateRefused]:
    """Export with a changed file and return the refusal, after which nothing may have been published."""

    def export(change: Change) -> GateRefused:
        from_trace(change)
        repository = ModelRepository(tmp_path / "repository")
        with pytest.raises(GateRefused) as caught:
            export_run(ExportRequest(run, "broken"), repository, data_root)
        assert "broken" not in repository.models()
        return caught.value

    return export


def rename_output(graph: onnx.GraphProto, name: str, other: str) -> None:
    """Let whoever makes `name` call it `other`; readers go on reading what was made."""
    for node in graph.node:
        for tensors in (node.input, node.output):
            for index, tensor in enumerate(tensors):
                if tensor == name:
                    tensors[index] = other


def test_a_state_that_does_not_arrive_is_refused_although_first_windows_agree(refused: Any) -> None:
    def forget(graph: onnx.GraphProto) -> None:
        zero = numpy_helper.from_array(np.float32(0), "forgotten")
        graph.initializer.append(zero)
        for node in graph.node:
            for index, tensor in enumerate(node.input):
                if tensor == "state_c2":
                    node.input[index] = "nothing"
        graph.node.insert(0, helper.make_node("Mul", ["state_c2", "forgotten"], ["nothing"]))

    refusal = refused(forget)
    states = check(refusal.report, "states, max")
    assert not states["passed"]
    assert check(refusal.report, "states, in first")["measured"] < 1e-5
    assert check(refusal.report, "states, in last")["measured"] > states["bound"]
    assert "fp32 allows" in refusal.detail
    assert "on 2 held-out recordings" in refusal.detail


def test_two_states_exchanged_are_refused(refused: Any) -> None:
    def exchange(graph: onnx.GraphProto) -> None:
        for name, other in (("next_h1", "between"), ("next_c1", "next_h1"), ("between", "next_c1")):
            rename_output(graph, name, other)

    assert not check(refused(exchange).report, "states, in first")["measured"] < 1e-3


def test_boxes_with_x_and_y_exchanged_are_refused_although_the_cells_agree(refused: Any) -> None:
    def exchange(graph: onnx.GraphProto) -> None:
        rename_output(graph, "boxes", "upright")
        graph.initializer.append(numpy_helper.from_array(np.array([1, 0, 3, 2]), "order"))
        graph.node.append(helper.make_node("Gather", ["upright", "order"], ["boxes"], axis=2))

    refusal = refused(exchange)
    assert check(refusal.report, "decoded boxes, max")["passed"]
    assert "candidates' boxes, max difference" in refusal.detail
    assert not check(refusal.report, "AP ")["passed"]


def test_streams_that_see_each_other_are_refused(refused: Any) -> None:
    def mix(graph: onnx.GraphProto) -> None:
        rename_output(graph, "next_h3", "alone")
        graph.initializer.append(numpy_helper.from_array(np.array([0]), "over_streams"))
        graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half_each"))
        graph.node.append(helper.make_node("ReduceMean", ["alone", "over_streams"], ["mean"], keepdims=1))
        graph.node.append(helper.make_node("Add", ["alone", "mean"], ["sum"]))
        graph.node.append(helper.make_node("Mul", ["sum", "half_each"], ["next_h3"]))

    refusal = refused(mix)
    assert check(refusal.report, "states, max")["passed"]  # alone, the mean is the stream itself
    assert refusal.detail.startswith("batch 1 against batch 4")


def test_outputs_that_are_not_finite_are_refused(refused: Any) -> None:
    def divide(graph: onnx.GraphProto) -> None:
        rename_output(graph, "next_c3", "finite")
        graph.initializer.append(numpy_helper.from_array(np.float32("nan"), "nan"))
        graph.node.append(helper.make_node("Mul", ["finite", "nan"], ["next_c3"]))

    assert "not finite" in refused(divide).detail


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp16"}, "fp32 only: states carried in half precision round at every window"),
        ({"precision": "int8"}, "fp32 only: what was rounded in a window is carried into the next ones"),
        ({"end_to_end": True}, "non-maximum suppression"),
    ],
)
def test_what_a_stream_model_cannot_be_is_refused_with_the_reason(
    run: Run, data_root: Path, tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    repository = ModelRepository(tmp_path / "repository")
    with pytest.raises(UnsupportedOption, match=words):
        export_run(ExportRequest(run, "streams", **options), repository, data_root)
    assert "streams" not in repository.models()


def test_recordings_preprocessed_otherwise_are_refused_by_what_differs(
    data_root: Path, tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", data="frames", window_ms=20)
    with pytest.raises(IncompleteRun, match="window_ms 50, and the model takes 20"):
        export_run(ExportRequest(other, "streams"), ModelRepository(tmp_path / "repository"), data_root)


def test_held_out_recordings_that_changed_since_training_are_refused(
    run: Run, data_root: Path, tmp_path: Path
) -> None:
    changed = replace(run, metrics={"data_hash": {"val": "0" * 64}})
    with pytest.raises(IncompleteRun, match="has changed since run stream-run was trained"):
        export_run(ExportRequest(changed, "streams"), ModelRepository(tmp_path / "repository"), data_root)


def test_the_command_line_shows_recordings_and_windows(
    from_trace: Callable[[Change], None],
    run: Run,
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from_trace(lambda graph: None)
    monkeypatch.setenv("SIGHTLINE_DATA_ROOT", str(data_root))
    monkeypatch.setenv("SIGHTLINE_REPOSITORY_ROOT", str(tmp_path / "repository"))
    app = typer.Typer()
    app.command()(export)
    result = CliRunner().invoke(app, [str(run.path)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "on 2 of 2 held-out recordings, 21 windows" in " ".join(result.output.split())
    result = CliRunner().invoke(app, [str(run.path), "--json"])
    assert json.loads(result.stdout)["parity"]["recordings"] == 2
