"""Detection: candidates out of the graph, and suppression behind them where it is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx import TensorProto
from torch import nn

from services.export.held_out import HELD_OUT_PICTURES, LabelledSet
from services.export.quantize import Method
from services.export.runs import Run
from services.export.tasks.detection_checks import judge
from services.export.tasks.detection_graph import DetectionGraph
from services.export.tasks.detection_measurement import measure
from services.export.tasks.detection_suppression import CANDIDATES, append_suppression
from services.export.tasks.task import OnPicture, ServingDefaults, Subject
from shared.data.splits import read_splits
from shared.families.family import DetectionFamily, Family
from shared.repository.manifest import Metrics, Precision, Thresholds

_INNER_TYPES = {"boxes": TensorProto.FLOAT, "scores": TensorProto.FLOAT, "labels": TensorProto.INT64}


class DetectionExport:
    """See ExportTask."""

    calibration: Method = "percentile"
    held_out = HELD_OUT_PICTURES

    def refuse(self, run: Run, precision: Precision, *, end_to_end: bool) -> None:
        """Nothing is refused: suppression may be inside the graph or outside."""

    def graph(self, family: Family, config: Any, network: nn.Module, *, half: bool = False) -> DetectionGraph:
        return DetectionGraph(_detection(family), config, network, half=half)

    def defaults(self, run: Run, family: Family, config: Any) -> ServingDefaults:
        return ServingDefaults(Thresholds.model_validate(_detection(family).default_thresholds(config)))

    def read_sets(self, run: Run, path: Path) -> tuple[LabelledSet, LabelledSet]:
        splits = read_splits(run.config.data, path, run.labels, run.config.seed)
        return splits.train, splits.val

    def finish(
        self, file: Path, labels: Sequence[str], defaults: ServingDefaults, *, end_to_end: bool
    ) -> None:
        if end_to_end:
            append_suppression(file, classes=len(labels), **_thresholds(defaults).model_dump())

    def inner_tensors(self, *, end_to_end: bool) -> Mapping[str, int]:
        return {inside: _INNER_TYPES[name] for name, inside in CANDIDATES.items()} if end_to_end else {}

    def judge(
        self, subject: Subject, records: Sequence[Any], available: int, on_picture: OnPicture
    ) -> tuple[Metrics, dict[str, Any]]:
        measured = measure(subject, _thresholds(subject.defaults), records, on_picture)
        parity = judge(
            measured,
            subject.precision,
            labels=len(subject.labels),
            image_side_px=max(subject.input_size),
            available=available,
            end_to_end=subject.end_to_end,
        )
        return Metrics(before=measured.before, after=measured.after), parity


def _detection(family: Family) -> DetectionFamily:
    if not isinstance(family, DetectionFamily):
        raise TypeError(f"{family.name} says that it is of the task detection and is no DetectionFamily")
    return family


def _thresholds(defaults: ServingDefaults) -> Thresholds:
    assert isinstance(defaults.thresholds, Thresholds)  # made by `defaults` above
    return defaults.thresholds
