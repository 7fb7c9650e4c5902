"""A trained run becomes a version that does what the network does; what does not is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from safetensors.torch import load_file, save_file

from services.export import pipeline
from services.export.pipeline import ExportRequest, export_run
from services.export.problems import GateRefused, IncompleteRun
from services.export.runs import Run, read_run
from services.export.tasks import detection
from shared.repository import ModelRepository
from shared.vision.nms import nms
from tests.services.export.conftest import graph_of


def check(parity: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [each for each in parity["checks"] if each["name"].startswith(name)]
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ModelRepository:
    return ModelRepository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def versions(run: Run, repository: ModelRepository, data_root: Path) -> dict[str, int]:
    """One version of each kind, exported once for all tests here."""
    requests = {
        "fp32": ExportRequest(run, "toy"),
        "fp16": ExportRequest(run, "toy", "fp16", promote=False),
        "int8": ExportRequest(run, "toy", "int8", promote=False),
        "e2e": ExportRequest(run, "toy", end_to_end=True, promote=False, source_job="export-7"),
    }
    return {kind: export_run(each, repository, data_root).version for kind, each in requests.items()}


def session(repository: ModelRepository, version: int) -> onnxruntime.InferenceSession:
    path = repository.path("toy", version) / "model.onnx"
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def pictures(data_root: Path) -> np.ndarray:
    import cv2

    paths = sorted((data_root / "toy" / "val").glob("*.png"))
    return np.stack([cv2.imread(str(path))[:, :, ::-1] for path in paths])


def test_the_network_that_these_tests_export_has_something_to_lose(
    versions: dict[str, int], repository: ModelRepository
) -> None:
    assert repository.manifest("toy", versions["fp32"]).metrics.before["ap50"] > 0.6


def test_fp32_gives_what_pytorch_gives_on_any_batch(
    versions: dict[str, int], repository: ModelRepository, data_root: Path, run: Run
) -> None:
    images = pictures(data_root)
    with torch.no_grad():
        boxes, scores, labels, _ = (each.numpy() for each in graph_of(run)(torch.from_numpy(images)))
    found = session(repository, versions["fp32"])
    for size in (1, 3, len(images)):
        got_boxes, got_scores, got_labels = found.run(None, {"images": images[:size]})
        np.testing.assert_allclose(got_scores, scores[:size], atol=1e-4)
        np.testing.assert_allclose(got_boxes, boxes[:size], atol=0.02)
        np.testing.assert_array_equal(got_labels, labels[:size])
        assert (np.diff(got_scores) <= 0).all()


@pytest.mark.parametrize("kind", ["fp32", "fp16", "int8", "e2e"])
def test_every_version_says_what_its_file_takes_and_gives(
    versions: dict[str, int], repository: ModelRepository, data_root: Path, kind: str
) -> None:
    manifest = repository.verify("toy", versions[kind])
    opened = session(repository, versions[kind])
    names = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
    for specs, found in ((manifest.inputs, opened.get_inputs()), (manifest.outputs, opened.get_outputs())):
        assert [(spec.name, spec.dtype) for spec in specs] == [(arg.name, names[arg.type]) for arg in found]
        for spec, arg in zip(specs, found, strict=True):
            assert [size if isinstance(size, int) else -1 for size in arg.shape] == spec.shape
            assert spec.shape[0] == -1
    assert manifest.source_run == "toy-run"
    assert manifest.labels == ["person"]
    assert manifest.data_hash
    assert torch.__version__.startswith(manifest.libraries["torch"].split("+")[0])
    assert {"ap", "ap50"} <= set(manifest.metrics.before) & set(manifest.metrics.after)
    outputs = opened.run(None, {"images": pictures(data_root)[:2]})
    assert [list(each.shape[1:]) for each in outputs] == [spec.shape[1:] for spec in manifest.outputs]


def test_the_parity_report_stands_in_the_manifest_with_every_number(
    versions: dict[str, int], repository: ModelRepository
) -> None:
    parity = repository.manifest("toy", versions["fp32"]).parity
    assert all(each["passed"] for each in parity["checks"])
    assert (parity["pictures"], parity["pictures_available"]) == (24, 24)
    assert parity["objects"] > 24
    assert 0 < check(parity, "raw outputs")["measured"] <= check(parity, "raw outputs")["bound"] == 1e-3
    assert "only 24 held-out pictures" in parity["notes"][0]
    assert parity["candidates_compared"] > 24


def test_only_what_was_promoted_is_live(versions: dict[str, int], repository: ModelRepository) -> None:
    assert repository.aliases("toy") == {"live": versions["fp32"]}


def test_a_file_names_no_path_of_this_machine(versions: dict[str, int], repository: ModelRepository) -> None:
    here = str(Path(pipeline.__file__).parents[2]).encode()
    for version in versions.values():
        assert here not in (repository.path("toy", version) / "model.onnx").read_bytes()


def test_reduced_precisions_are_smaller(versions: dict[str, int], repository: ModelRepository) -> None:
    size = {
        kind: (repository.path("toy", version) / "model.onnx").stat().st_size
        for kind, version in versions.items()
    }
    assert size["fp16"] < 0.55 * size["fp32"]
    assert size["int8"] < 0.35 * size["fp32"]


def test_int8_quantises_the_body_and_leaves_head_and_decode_in_float(
    versions: dict[str, int], repository: ModelRepository
) -> None:
    graph = onnx.load(repository.path("toy", versions["int8"]) / "model.onnx").graph
    dequantized = {
        output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output
    }
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    quantized = [node for node in convolutions if node.input[1] in dequantized]
    assert (len(convolutions), len(quantized)) == (10, 9)
    assert convolutions[-1] not in quantized
    for node in graph.node:
        if node.op_type in ("Sigmoid", "TopK", "Div"):
            assert not dequantized.intersection(node.input)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    by_output = {output: node for node in graph.node for output in node.output}
    for node in quantized:
        weight = by_output[node.input[1]]
        assert weights[weight.input[0]].data_type == onnx.TensorProto.INT8
        scales = numpy_helper.to_array(weights[weight.input[1]])
        assert scales.shape == (numpy_helper.to_array(weights[weight.input[0]]).shape[0],)  # per channel


def test_fp16_holds_half_precision_weights_and_float_outputs(
    versions: dict[str, int], repository: ModelRepository
) -> None:
    graph = onnx.load(repository.path("toy", versions["fp16"]) / "model.onnx").graph
    kinds = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}


def test_suppression_in_the_graph_is_that_of_shared_vision(
    versions: dict[str, int], repository: ModelRepository, data_root: Path
) -> None:
    images = pictures(data_root)
    plain = session(repository, versions["fp32"]).run(None, {"images": images})
    manifest = repository.manifest("toy", versions["e2e"])
    opened = session(repository, versions["e2e"])
    names = [output.name for output in opened.get_outputs()]
    found = dict(zip(names, opened.run(None, {"images": images}), strict=True))
    thresholds = manifest.thresholds
    assert manifest.end_to_end
    assert found["num_detections"].sum() > 10
    for index in range(len(images)):
        boxes, scores, labels = (each[index] for each in plain)
        enough = np.flatnonzero(scores >= thresholds.score_threshold)
        kept = enough[
            nms(
                boxes[enough],
                scores[enough],
                labels[enough],
                thresholds.iou_threshold,
                thresholds.max_detections,
            )
        ]
        assert found["num_detections"][index] == len(kept)
        np.testing.assert_allclose(found["boxes"][index][: len(kept)], boxes[kept], atol=1e-4)
        assert not found["boxes"][index][len(kept) :].any()
        assert not found["scores"][index][len(kept) :].any()


def test_a_version_knows_the_job_that_made_it(versions: dict[str, int], repository: ModelRepository) -> None:
    assert repository.manifest("toy", versions["e2e"]).source_job == "export-7"
    assert repository.manifest("toy", versions["fp32"]).source_job is None


# What must be refused. Each breaks the file after it was traced, as a fault of an exporter would.


Change = Callable[[onnx.GraphProto], None]
Refusal = Callable[..., GateRefused]


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
def refused(
    from_trace: Callable[[Change], None], run: Run, repository: ModelRepository, data_root: Path
) -> Refusal:
    """Export with a changed file and return the refusal, after which nothing may have been published."""

    def export(change: Change = lambda graph: None, **options: Any) -> GateRefused:
        from_trace(change)
        with pytest.raises(GateRefused) as caught:
            export_run(ExportRequest(run, "broken", **options), repository, data_root)
        assert "broken" not in repository.models()
        return caught.value

    return export


def scale_weights(graph: onnx.GraphProto, layer: int, factor: float) -> None:
    name = [node for node in graph.node if node.op_type == "Conv"][layer].input[1]
    [tensor] = [each for each in graph.initializer if each.name == name]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))


def test_weights_changed_by_one_percent_are_refused_with_the_number(refused: Refusal) -> None:
    refusal = refused(lambda graph: scale_weights(graph, 4, 1.01))
    failed = check(refusal.report, "raw outputs")
    assert not failed["passed"]
    assert failed["measured"] > 1e-3
    assert f"{failed['measured']:.6g}" in refusal.detail
    assert "fp32 allows 0.001" in refusal.detail


def test_boxes_with_x_and_y_exchanged_are_refused_although_the_raw_outputs_agree(refused: Refusal) -> None:
    def exchange(graph: onnx.GraphProto) -> None:
        [maker] = [node for node in graph.node if "boxes" in node.output]
        maker.output[list(maker.output).index("boxes")] = "upright"
        order = numpy_helper.from_array(np.array([1, 0, 3, 2]), "order")
        graph.initializer.append(order)
        graph.node.append(onnx.helper.make_node("Gather", ["upright", "order"], ["boxes"], axis=2))

    refusal = refused(exchange)
    assert check(refusal.report, "raw outputs")["passed"]
    assert "boxes, max difference" in refusal.detail
    assert not check(refusal.report, "AP ")["passed"]


def test_outputs_that_are_not_finite_are_refused(refused: Refusal) -> None:
    assert "not finite" in refused(lambda graph: scale_weights(graph, -1, float("nan"))).detail


def test_int8_calibrated_on_the_wrong_pictures_is_refused_for_its_ap(
    monkeypatch: pytest.MonkeyPatch, refused: Refusal
) -> None:
    real = pipeline.quantize

    def absurd(source: Path, target: Path, names: Any, images: list[np.ndarray], **options: Any) -> None:
        real(source, target, names, [np.full_like(images[0], 3)], **options)  # one nearly black picture

    monkeypatch.setattr(pipeline, "quantize", absurd)
    refusal = refused(precision="int8")
    assert "AP loss" in refusal.detail
    assert "int8 allows 0.01" in refusal.detail


def test_suppression_with_another_threshold_is_refused(
    monkeypatch: pytest.MonkeyPatch, refused: Refusal
) -> None:
    real = detection.append_suppression
    monkeypatch.setattr(
        detection,
        "append_suppression",
        lambda path, **given: real(path, **(given | {"score_threshold": 0.95})),
    )
    assert not check(refused(end_to_end=True).report, "suppression differs")["passed"]


def copied(run: Run, target: Path) -> Path:
    return Path(shutil.copytree(run.path, target / "copy"))


def test_weights_of_another_network_are_refused_by_name(
    run: Run, repository: ModelRepository, data_root: Path, tmp_path: Path
) -> None:
    folder = copied(run, tmp_path)
    tensors = load_file(folder / "weights.safetensors")
    del tensors["head.weight"]
    save_file(tensors, folder / "weights.safetensors")
    with pytest.raises(IncompleteRun, match="does not fit the network"):
        export_run(ExportRequest(read_run(folder), "broken"), repository, data_root)


def test_truncated_weights_and_other_labels_are_refused(
    run: Run, repository: ModelRepository, data_root: Path, tmp_path: Path
) -> None:
    folder = copied(run, tmp_path)
    (folder / "labels.json").write_text('["person", "dog"]')
    with pytest.raises(IncompleteRun, match="2 labels"):
        export_run(ExportRequest(read_run(folder), "broken"), repository, data_root)
    (folder / "labels.json").write_text('["person"]')
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(IncompleteRun, match=r"weights\.safetensors"):
        export_run(ExportRequest(read_run(folder), "broken"), repository, data_root)


def test_held_out_pictures_that_changed_since_training_are_refused(
    run: Run, repository: ModelRepository, data_root: Path
) -> None:
    changed = replace(run, metrics={"data_hash": {"val": "0" * 64}})
    with pytest.raises(IncompleteRun, match="has changed since run toy-run was trained"):
        export_run(ExportRequest(changed, "broken"), repository, data_root)


def test_data_that_is_gone_is_named(run: Run, repository: ModelRepository, tmp_path: Path) -> None:
    with pytest.raises(IncompleteRun, match="SIGHTLINE_DATA_ROOT"):
        export_run(ExportRequest(run, "broken"), repository, tmp_path)


def test_a_lost_lease_at_the_last_moment_publishes_nothing(
    from_trace: Callable[[Change], None], run: Run, repository: ModelRepository, data_root: Path
) -> None:
    def lost() -> None:
        raise RuntimeError("the lease is lost")

    from_trace(lambda graph: None)
    with pytest.raises(RuntimeError, match="the lease is lost"):
        export_run(ExportRequest(run, "broken"), repository, data_root, before_publishing=lost)
    assert "broken" not in repository.models()


def test_without_a_labelled_object_there_is_no_verdict_and_no_version(
    from_trace: Callable[[Change], None],
    run: Run,
    repository: ModelRepository,
    data_root: Path,
    tmp_path: Path,
) -> None:
    from_trace(lambda graph: None)
    shutil.copytree(data_root / "toy", tmp_path / "toy")
    labels = tmp_path / "toy" / "annotations" / "val.json"
    labels.write_text(json.dumps(json.loads(labels.read_text()) | {"annotations": []}))
    with pytest.raises(GateRefused, match="0 labelled objects"):
        export_run(ExportRequest(run, "broken"), repository, tmp_path)
