"""What the pipeline needs of a task; one file for each stands beside this one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from services.export.graph import CarriedState, ExportedGraph
from services.export.held_out import LabelledSet
from services.export.quantize import Method
from services.export.runners import Runner
from services.export.runs import Run
from shared.families.family import Family
from shared.repository.manifest import LabelThresholds, Metrics, Precision, Thresholds

# Called with the number of pictures (or windows) done and how many there are.
OnPicture = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ServingDefaults:
    """Thresholds for the manifest; note: what is to be known of them, for the parity report."""

    thresholds: Thresholds | LabelThresholds
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """What the gate compares. `inner` runs the shipped nodes too, and shows tensors inside the file."""

    reference: Runner
    shipped: Runner
    inner: Runner
    raw_names: Sequence[str]
    labels: Sequence[str]
    defaults: ServingDefaults
    input_size: tuple[int, int]  # (height, width) in pixels
    states: Sequence[CarriedState]
    precision: Precision
    end_to_end: bool


class ExportTask(Protocol):
    """How the models of one task are exported and judged."""

    calibration: Method  # how int8 bounds the range of an activation
    held_out: int  # pictures, or recordings, that the gate looks at

    def refuse(self, run: Run, precision: Precision, *, end_to_end: bool) -> None:
        """Raise UnsupportedOption for what this task cannot do."""

    def graph(self, family: Family, config: Any, network: nn.Module, *, half: bool = False) -> ExportedGraph:
        """Return what is exported; with `half` the network computes in float16, inputs and outputs do not."""

    def defaults(self, run: Run, family: Family, config: Any) -> ServingDefaults:
        """Return the thresholds to serve with. Raises IncompleteRun where the run's do not read."""

    def read_sets(self, run: Run, path: Path) -> tuple[LabelledSet, LabelledSet]:
        """Return the training and the validation set. Raises ValueError or OSError."""

    def finish(
        self, file: Path, labels: Sequence[str], defaults: ServingDefaults, *, end_to_end: bool
    ) -> None:
        """Put into the finished file what belongs behind the network."""

    def inner_tensors(self, *, end_to_end: bool) -> Mapping[str, int]:
        """Return further tensors inside the file that the gate looks at, with their ONNX types."""

    def judge(
        self, subject: Subject, records: Sequence[Any], available: int, on_picture: OnPicture
    ) -> tuple[Metrics, dict[str, Any]]:
        """Return the metrics of network and file on `records`, and the parity report. Raises GateRefused."""
