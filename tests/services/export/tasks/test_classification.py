"""A trained classifier becomes a version that decides what the network decides; what does not is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import typer
from onnx import numpy_helper
from typer.testing import CliRunner

from services.export import job, pipeline
from services.export.cli import export
from services.export.pipeline import ExportRequest, export_run
from services.export.problems import GateRefused, IncompleteRun, UnsupportedOption
from services.export.runs import Run, read_run
from services.export.tasks import classification
from shared.core.settings import CommonSettings
from shared.data.formats.classification import read_classification_set
from shared.data.split_file import describe_parts, read_split_file, write_split_file
from shared.jobs.context import JobContext, JobRefused
from shared.repository import ModelRepository
from shared.repository.manifest import LabelThresholds
from tests.services.export.tasks.conftest import HEIGHT, NAMES, TRAIN, VAL, WIDTH, labels_graph
from tests.services.export.test_job import FakeLease

Change = Callable[[onnx.GraphProto], None]


def check(parity: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [each for each in parity["checks"] if each["name"].startswith(name)]
    return found


@pytest.fixture
def from_trace(
    monkeypatch: pytest.MonkeyPatch, labels_traced: tuple[Path, list[str]]
) -> Callable[[Change], None]:
    """Let the pipeline take the one traced file, after a change, in place of tracing again."""

    def use(change: Change) -> None:
        def export(graph: Any, path: Path) -> list[str]:
            model = onnx.load(labels_traced[0])
            change(model.graph)
            onnx.save_model(model, path)
            return labels_traced[1]

        monkeypatch.setattr(pipeline, "export_onnx", export)

    return use


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    return ModelRepository(tmp_path_factory.mktemp("label-repository"))


@pytest.fixture(scope="module")
def versions(
    labels_run: Run,
    repository: ModelRepository,
    labels_root: Path,
    labels_traced: tuple[Path, list[str]],
) -> dict[str, int]:
    """One version of each precision; fp32 and int8 begin with the one traced file."""

    def copy(graph: Any, path: Path) -> list[str]:
        assert graph.size == (HEIGHT, WIDTH)
        shutil.copy(labels_traced[0], path)
        return labels_traced[1]

    def export(precision: Any) -> int:
        return export_run(ExportRequest(labels_run, "bands", precision), repository, labels_root).version

    made = {"fp16": export("fp16")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "export_onnx", copy)
        return made | {precision: export(precision) for precision in ("fp32", "int8")}


def session(repository: ModelRepository, version: int) -> onnxruntime.InferenceSession:
    path = repository.path("bands", version) / "model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pictures(root: Path, count: int = 6) -> np.ndarray:
    paths = sorted((root / "bands" / "train_images").glob("*.png"))[-count:]
    return np.stack([cv2.imread(str(path))[:, :, ::-1] for path in paths])


def test_the_network_that_these_tests_export_has_something_to_lose(
    versions: dict[str, int], repository: ModelRepository
) -> None:
    assert repository.manifest("bands", versions["fp32"]).metrics.before["macro_f1"] > 0.85


def test_fp32_gives_what_pytorch_gives_on_any_batch(
    versions: dict[str, int], repository: ModelRepository, labels_root: Path, labels_run: Run
) -> None:
    images = pictures(labels_root)
    with torch.no_grad():
        probabilities, maps, logits = (
            each.numpy() for each in labels_graph(labels_run)(torch.from_numpy(images.copy()))
        )
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), logits, atol=1e-4)
    found = session(repository, versions["fp32"])
    for size in (1, 4):
        got, got_maps = found.run(["probabilities", "activation_maps"], {"images": images[:size]})
        np.testing.assert_allclose(got, probabilities[:size], atol=1e-4)
        np.testing.assert_allclose(got_maps, maps[:size], atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_manifest_says_everything_a_server_has_to_know(
    versions: dict[str, int],
    repository: ModelRepository,
    labels_root: Path,
    labels_run: Run,
    precision: str,
) -> None:
    manifest = repository.verify("bands", versions[precision])
    assert (manifest.task, manifest.family, manifest.precision) == ("classification", "defects", precision)
    assert manifest.labels == NAMES
    assert manifest.thresholds == LabelThresholds(probability=[0.45, 0.55])  # of the run's thresholds.json
    assert (manifest.preprocessing.height, manifest.preprocessing.width) == (HEIGHT, WIDTH)
    assert {output.name: (output.dtype, output.shape) for output in manifest.outputs} == {
        "probabilities": ("float32", [-1, 2]),
        "activation_maps": ("float32", [-1, 2, 2, 3]),
    }
    assert manifest.inputs[0].shape == [-1, HEIGHT, WIDTH, 3]
    assert {"macro_f1", "map", "macro_auroc"} <= set(manifest.metrics.before) & set(manifest.metrics.after)
    parity = manifest.parity
    assert all(each["passed"] for each in parity["checks"])
    assert (parity["pictures"], parity["pictures_available"]) == (VAL, VAL)
    assert parity["labels_decided"] == 2 * VAL
    others = check(parity, "labels decided otherwise")["measured"]
    assert parity["agreement"] == pytest.approx(1 - others / (2 * VAL))
    assert parity["agreement"] > 0.97
    outputs = session(repository, versions[precision]).run(None, {"images": pictures(labels_root)})
    assert all(np.isfinite(output).all() for output in outputs)


def test_int8_quantises_convolutions_and_leaves_head_gates_and_sums_in_float(
    versions: dict[str, int], repository: ModelRepository
) -> None:
    graph = onnx.load(repository.path("bands", versions["int8"]) / "model.onnx").graph
    makers = {output: node for node in graph.node for output in node.output}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    quantized = 0
    for node in graph.node:
        weighted = node.op_type in ("Conv", "MatMul") and node.input[1] in makers
        if weighted and makers[node.input[1]].op_type == "DequantizeLinear":
            stored = weights[makers[node.input[1]].input[0]]
            assert stored.data_type == onnx.TensorProto.INT8
            assert stored.dims[0] >= 8  # the gates, with one channel, are not among them
            quantized += 1
    assert quantized > 20
    [narrow] = {
        tuple(weights[node.input[1]].dims)[:2]
        for node in graph.node
        if node.op_type == "Conv" and node.input[1] in weights and weights[node.input[1]].dims[0] == 1
    }
    assert narrow == (1, 2)  # CBAM's 7x7 over two maps
    sizes = {
        kind: (repository.path("bands", number) / "model.onnx").stat().st_size
        for kind, number in versions.items()
    }
    assert sizes["int8"] < 0.4 * sizes["fp32"]
    assert sizes["fp16"] < 0.6 * sizes["fp32"]


def test_end_to_end_is_refused_before_anything_is_done(
    labels_run: Run, repository: ModelRepository, labels_root: Path
) -> None:
    request = ExportRequest(labels_run, "broken", end_to_end=True)
    with pytest.raises(UnsupportedOption, match="no boxes to suppress"):
        export_run(request, repository, labels_root)
    assert "broken" not in repository.models()


def test_a_job_that_asks_for_end_to_end_fails_for_good(
    labels_run: Run, labels_root: Path, tmp_path: Path
) -> None:
    settings = CommonSettings(var_dir=tmp_path, runs_root=labels_run.path.parent, data_root=labels_root)
    params = {"run_id": labels_run.run_id, "name": "bands", "end_to_end": True}
    context = JobContext("export-1", "export", params, 1, tmp_path / "job", settings, FakeLease())
    with pytest.raises(JobRefused, match="leave it out"):
        job.run(context)


def test_the_command_shows_what_the_gate_compared(
    from_trace: Callable[[Change], None],
    labels_run: Run,
    labels_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from_trace(lambda graph: None)
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path))
    monkeypatch.setenv("SIGHTLINE_RUNS_ROOT", str(labels_run.path.parent))
    monkeypatch.setenv("SIGHTLINE_DATA_ROOT", str(labels_root))
    app = typer.Typer()
    app.command()(export)
    done = CliRunner().invoke(app, [labels_run.run_id])
    assert done.exit_code == 0, done.stderr
    assert "labels present" in done.stdout
    assert "macro-F1 difference" in done.stdout
    assert ModelRepository(tmp_path / "repository").aliases("defects") == {"live": 1}
    refused = CliRunner().invoke(app, [labels_run.run_id, "--end-to-end"])
    assert refused.exit_code == 2
    assert "no boxes to suppress" in refused.stderr


@pytest.fixture
def refused(
    from_trace: Callable[[Change], None], labels_run: Run, repository: ModelRepository, labels_root: Path
) -> Callable[..., GateRefused]:
    """Export with a changed file and return the refusal, after which nothing may have been published."""

    def export(change: Change = lambda graph: None, **options: Any) -> GateRefused:
        from_trace(change)
        with pytest.raises(GateRefused) as caught:
            export_run(ExportRequest(labels_run, "broken", **options), repository, labels_root)
        assert "broken" not in repository.models()
        return caught.value

    return export


def scale(graph: onnx.GraphProto, factor: float) -> None:
    """Multiply the weights of the first convolution."""
    first = next(node for node in graph.node if node.op_type == "Conv")
    [tensor] = [each for each in graph.initializer if each.name == first.input[1]]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))


def test_weights_changed_by_a_little_are_refused_with_the_number(
    refused: Callable[..., GateRefused],
) -> None:
    refusal = refused(lambda graph: scale(graph, 1.3))
    failed = check(refusal.report, "logits")
    assert not failed["passed"]
    assert f"{failed['measured']:.6g}" in refusal.detail
    assert "fp32 allows 0.001" in refusal.detail


def test_outputs_that_are_not_finite_are_refused(refused: Callable[..., GateRefused]) -> None:
    assert "not finite" in refused(lambda graph: scale(graph, float("nan"))).detail


def rename(graph: onnx.GraphProto, output: str, inner: str, *nodes: onnx.NodeProto) -> None:
    [maker] = [node for node in graph.node if output in node.output]
    maker.output[list(maker.output).index(output)] = inner
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == output:
                node.input[index] = inner
    graph.node.extend(nodes)


def test_labels_in_another_order_are_refused_although_the_logits_agree(
    refused: Callable[..., GateRefused],
) -> None:
    def exchange(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(np.array([1, 0]), "order"))
        gather = onnx.helper.make_node("Gather", ["in_order", "order"], ["probabilities"], axis=1)
        rename(graph, "probabilities", "in_order", gather)

    refusal = refused(exchange)
    assert check(refusal.report, "logits")["passed"]
    assert "probabilities, max difference" in refusal.detail
    assert not check(refusal.report, "macro-F1")["passed"]


def test_maps_that_do_not_add_up_to_the_logits_are_refused(refused: Callable[..., GateRefused]) -> None:
    def shift(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(np.float32(1.01), "factor"))
        node = onnx.helper.make_node("Mul", ["true_maps", "factor"], ["activation_maps"])
        rename(graph, "activation_maps", "true_maps", node)

    assert "activation maps" in refused(shift).detail


def test_int8_calibrated_on_the_wrong_pictures_is_refused_for_its_f1(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., GateRefused]
) -> None:
    real = pipeline.quantize

    def absurd(source: Path, target: Path, names: Any, images: list[np.ndarray], **options: Any) -> None:
        real(source, target, names, [np.full_like(images[0], 114)], **options)  # one grey picture

    monkeypatch.setattr(pipeline, "quantize", absurd)
    refusal = refused(precision="int8")
    assert "macro-F1 loss" in refusal.detail
    assert "int8 allows 0.01" in refusal.detail


def copied(run: Run, target: Path) -> Path:
    return Path(shutil.copytree(run.path, target / "copy"))


def test_a_run_without_thresholds_is_served_with_a_half_and_a_note(
    from_trace: Callable[[Change], None],
    labels_run: Run,
    repository: ModelRepository,
    labels_root: Path,
    tmp_path: Path,
) -> None:
    from_trace(lambda graph: None)
    folder = copied(labels_run, tmp_path)
    (folder / "thresholds.json").unlink()
    result = export_run(ExportRequest(read_run(folder), "plain"), repository, labels_root)
    manifest = repository.manifest("plain", result.version)
    assert manifest.thresholds == LabelThresholds(probability=[0.5, 0.5])
    assert "no thresholds.json" in manifest.parity["notes"][0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "cannot be read"),
        ("[0.5, 0.5]", "cannot be read"),
        ('{"probability": [0.5, 1.5]}', "cannot be read"),
        ('{"probability": [0.5, NaN]}', "cannot be read"),
        ('{"class_names": ["1", "2"]}', "cannot be read"),
        ('{"probability": [0.5]}', r"1 thresholds .* parts of different runs"),
        ('{"probability": [0.5, 0.5], "class_names": ["2", "1"]}', "parts of different runs"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(
    labels_run: Run, repository: ModelRepository, labels_root: Path, tmp_path: Path, text: str, words: str
) -> None:
    folder = copied(labels_run, tmp_path)
    (folder / "thresholds.json").write_text(text)
    with pytest.raises(IncompleteRun, match=words):
        export_run(ExportRequest(read_run(folder), "broken"), repository, labels_root)


def test_the_held_out_pictures_are_those_of_the_runs_own_split_file(
    labels_run: Run, labels_root: Path, tmp_path: Path
) -> None:
    task = classification.ClassificationExport()
    _, val = task.read_sets(labels_run, labels_root / "bands")
    assert len(val) == VAL
    stated = json.loads((labels_run.path / "splits.json").read_text())["parts"]["val"]
    assert sorted(record.image_id for record in val.records) == sorted(stated)


@pytest.mark.parametrize(
    "data", [{"val": None}, {"split_file": "since/removed.json"}, {"train": "a", "val": "b"}]
)
def test_the_runs_own_split_file_needs_nothing_of_what_made_it(
    labels_run: Run, labels_root: Path, data: dict[str, Any]
) -> None:
    config = labels_run.config
    run = replace(labels_run, config=config.model_copy(update={"data": config.data.model_copy(update=data)}))
    train, val = classification.ClassificationExport().read_sets(run, labels_root / "bands")
    assert (len(train), len(val)) == (TRAIN, VAL)


def test_a_run_judged_by_its_training_pictures_is_exported_on_them(
    labels_run: Run, labels_root: Path, tmp_path: Path
) -> None:
    folder = copied(labels_run, tmp_path)
    file = read_split_file(folder / "splits.json")
    whole = read_classification_set(labels_root / "bands", class_names=NAMES)
    train = file.apply(whole)["train"]
    write_split_file(folder / "splits.json", describe_parts({"train": train}))
    sets = classification.ClassificationExport().read_sets(read_run(folder), labels_root / "bands")
    stated = file.parts["train"]
    assert [sorted(record.image_id for record in part.records) for part in sets] == [stated, stated]


def test_held_out_pictures_that_changed_since_training_are_refused(
    labels_run: Run, repository: ModelRepository, labels_root: Path
) -> None:
    changed = replace(labels_run, metrics={"data_hash": {"val": "0" * 64}})
    with pytest.raises(IncompleteRun, match="has changed since run bands-run was trained"):
        export_run(ExportRequest(changed, "broken"), repository, labels_root)
