"""An export from beginning to end: load, trace, quantise, judge, publish."""

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from services.export import raw_outputs
from services.export.exporter import export_onnx
from services.export.graph import ExportedGraph
from services.export.held_out import LabelledSet, load_picture, load_splits, spread
from services.export.problems import IncompleteRun
from services.export.quantize import Method, quantize
from services.export.runners import onnx_runner, open_session, torch_runner
from services.export.runs import Run
from services.export.tasks import TASKS
from services.export.tasks.task import Subject
from shared.core.files import resolve_under
from shared.families import Family, config_class, family_task, get_family
from shared.repository.manifest import (
    MODEL_FILE,
    ManifestDraft,
    Metrics,
    Precision,
    StateSpec,
    TensorSpec,
)
from shared.repository.repository import ModelRepository

CALIBRATION_PICTURES = 64
_LIBRARIES = ("sightline", "torch", "onnx", "onnxscript", "onnxruntime", "numpy")
_DTYPES = {
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT8: "int8",
    onnx.TensorProto.FLOAT16: "float16",
    onnx.TensorProto.FLOAT: "float32",
    onnx.TensorProto.INT64: "int64",
}

# Called with the name of the step, how much of it is done and how much there is; may raise to stop.
OnStep = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to make of a run. `source_job` is the job that asked for it, if any."""

    run: Run
    name: str
    precision: Precision = "fp32"
    end_to_end: bool = False
    promote: bool = True
    source_job: str | None = None


@dataclass(frozen=True, slots=True)
class ExportResult:
    name: str
    version: int
    path: Path
    parity: dict[str, Any]
    metrics: Metrics
    promoted: bool

    def as_json(self) -> dict[str, Any]:
        """Return the result in JSON's types."""
        return {
            "name": self.name,
            "version": self.version,
            "path": str(self.path),
            "parity": self.parity,
            "metrics": self.metrics.model_dump(),
            "promoted": self.promoted,
        }


def export_run(
    request: ExportRequest,
    repository: ModelRepository,
    data_root: Path,
    on_step: OnStep = lambda step, done, total: None,
    before_publishing: Callable[[], None] = lambda: None,
) -> ExportResult:
    """Export a run and publish it, if it passes the gate, as the next version of `request.name`.

    Nothing is visible in the repository before the gate has passed. `before_publishing` may raise to stop at
    the last moment. Raises IncompleteRun, GateRefused, and OSError when the disk is full.
    """
    made: dict[str, ManifestDraft] = {}

    def build(folder: Path) -> ManifestDraft:
        made["draft"] = _build(request, folder, data_root, on_step)
        before_publishing()
        on_step("publish", 0, 1)
        return made["draft"]

    version = repository.add_version(request.name, build)
    if request.promote:
        repository.promote(request.name, version)
    on_step("publish", 1, 1)
    draft = made["draft"]
    return ExportResult(
        name=request.name,
        version=version,
        path=repository.path(request.name, version),
        parity=draft.parity,
        metrics=draft.metrics,
        promoted=request.promote,
    )


def _build(request: ExportRequest, folder: Path, data_root: Path, on_step: OnStep) -> ManifestDraft:
    run, file = request.run, folder / MODEL_FILE
    task_name = family_task(run.config.family)
    task = TASKS[task_name]
    task.refuse(run, request.precision, end_to_end=request.end_to_end)
    on_step("load", 0, 1)
    family = get_family(run.config.family)
    config = config_class(run.config.family)(**run.config.model)
    labels = _labels(run, family, config)
    defaults = task.defaults(run, family, config)
    size = family.input_size(config)
    training_set, held_out_set = load_splits(run, data_root, task.read_sets)
    reference = task.graph(family, config, _network(run, family, config))
    on_step("load", 1, 1)

    on_step("trace", 0, 1)
    half = request.precision == "fp16"
    exported = task.graph(family, config, _network(run, family, config), half=True) if half else reference
    raw_names = export_onnx(exported, file)
    on_step("trace", 1, 1)
    if request.precision == "int8":
        _quantize(file, [*exported.outputs, *raw_names], training_set, size, task.calibration, on_step)
    raw_outputs.hide(file, raw_names)
    task.finish(file, labels, defaults, end_to_end=request.end_to_end)

    inner = dict.fromkeys(raw_names, onnx.TensorProto.FLOAT) | dict(
        task.inner_tensors(end_to_end=request.end_to_end)
    )
    subject = Subject(
        reference=torch_runner(reference, raw_names),
        shipped=onnx_runner(open_session(file)),
        inner=onnx_runner(open_session(raw_outputs.shown(file, inner))),
        raw_names=raw_names,
        labels=labels,
        defaults=defaults,
        input_size=size,
        states=exported.states,
        precision=request.precision,
        end_to_end=request.end_to_end,
    )
    chosen = spread(held_out_set.records, task.held_out)
    metrics, parity = task.judge(
        subject, chosen, len(held_out_set), lambda done, total: on_step("compare", done, total)
    )
    inputs, outputs = tensors(file, exported)
    return ManifestDraft(
        family=run.config.family,
        task=task_name,
        precision=request.precision,
        end_to_end=request.end_to_end,
        inputs=inputs,
        outputs=outputs,
        preprocessing=exported.preprocessing,
        states=[StateSpec(input=state.input, output=state.output) for state in exported.states],
        labels=labels,
        thresholds=defaults.thresholds,
        metrics=metrics,
        parity=parity,
        source_run=run.run_id,
        source_job=request.source_job,
        data_hash=held_out_set.content_hash(),
        libraries={library: importlib.metadata.version(library) for library in _LIBRARIES},
    )


def _labels(run: Run, family: Family, config: Any) -> list[str]:
    expected = family.class_names(config)
    if run.labels != expected:
        raise IncompleteRun(
            f"labels.json of run {run.run_id} has {len(run.labels)} labels {run.labels} and its network "
            f"{len(expected)}: {expected}; the folder holds parts of different runs",
            run=run.run_id,
        )
    return run.labels


def _network(run: Run, family: Family, config: Any) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = family.build(config)
    try:
        network.load_state_dict(load_file(run.weights), strict=True)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise IncompleteRun(
            f"{run.weights} does not fit the network that config.yaml describes: {error}", run=run.run_id
        ) from error
    return network


def _quantize(
    file: Path,
    outputs: list[str],
    training_set: LabelledSet,
    size: tuple[int, int],
    method: Method,
    on_step: OnStep,
) -> None:
    chosen = spread(training_set.records, CALIBRATION_PICTURES)
    images = [load_picture(record, size).pixels for record in chosen]
    float_file = resolve_under(file.parent, "float.onnx")
    file.rename(float_file)
    quantize(
        float_file,
        file,
        outputs,
        images,
        method=method,
        on_image=lambda done, total: on_step("calibrate", done, total),
    )
    float_file.unlink()


def tensors(file: Path, exported: ExportedGraph) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Return the inputs and outputs that the file itself states, which was made of `exported`."""
    graph = onnx.load(file, load_external_data=False).graph

    def specs(values: Any) -> list[TensorSpec]:
        return [
            TensorSpec(
                name=value.name,
                dtype=_DTYPES[value.type.tensor_type.elem_type],
                shape=[
                    dim.dim_value if dim.HasField("dim_value") else -1
                    for dim in value.type.tensor_type.shape.dim
                ],
            )
            for value in values
        ]

    inputs, outputs = specs(graph.input), specs(graph.output)
    assert [spec.name for spec in inputs] == list(exported.inputs)
    return inputs, outputs
