"""Detection in streams: candidates of a window and what to remember, out of the graph."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from services.export.problems import UnsupportedOption
from services.export.quantize import Method
from services.export.runs import Run
from services.export.tasks.stream_checks import judge
from services.export.tasks.stream_graph import StreamGraph
from services.export.tasks.stream_measurement import measure
from services.export.tasks.task import OnPicture, ServingDefaults, Subject
from shared.data.events.clips.frame_set import FrameSet, read_frame_splits
from shared.families import config_class, get_family
from shared.families.family import Family, StreamFamily
from shared.repository.manifest import Metrics, Precision, Thresholds
from shared.vision.event_stacks import REPRESENTATIONS

_WHY_FP32: Mapping[Precision, str] = {
    "fp16": "states carried in half precision round at every window and drift, and no CPU runs it faster",
    "int8": "what was rounded in a window is carried into the next ones, and calibration on single windows "
    "does not see the states that a stream grows",
}


class StreamDetectionExport:
    """See ExportTask."""

    calibration: Method = "minmax"  # int8 is refused below
    held_out = 8

    def refuse(self, run: Run, precision: Precision, *, end_to_end: bool) -> None:
        if end_to_end:
            raise UnsupportedOption(
                f"end_to_end puts non-maximum suppression into the graph, and streams of run {run.run_id} "
                f"({run.config.family}) choose their own thresholds for it; leave it out"
            )
        if precision != "fp32":
            raise UnsupportedOption(
                f"a stream model such as run {run.run_id} ({run.config.family}) is exported in fp32 only: "
                f"{_WHY_FP32[precision]}; leave the precision {precision} out"
            )

    def graph(self, family: Family, config: Any, network: nn.Module, *, half: bool = False) -> StreamGraph:
        return StreamGraph(_stream(family), config, network)  # half precision is refused above

    def defaults(self, run: Run, family: Family, config: Any) -> ServingDefaults:
        return ServingDefaults(Thresholds.model_validate(_stream(family).default_thresholds(config)))

    def read_sets(self, run: Run, path: Path) -> tuple[FrameSet, FrameSet]:
        splits = read_frame_splits(run.config.data, path, run.labels, run.config.seed)
        family = _stream(get_family(run.config.family))
        _require_same_input(splits.val, family, config_class(run.config.family)(**run.config.model))
        return splits.train, splits.val

    def finish(
        self, file: Path, labels: Sequence[str], defaults: ServingDefaults, *, end_to_end: bool
    ) -> None:
        """Nothing belongs behind the candidates: requests choose their thresholds."""

    def inner_tensors(self, *, end_to_end: bool) -> Mapping[str, int]:
        return {}

    def judge(
        self, subject: Subject, records: Sequence[Any], available: int, on_picture: OnPicture
    ) -> tuple[Metrics, dict[str, Any]]:
        thresholds = subject.defaults.thresholds
        assert isinstance(thresholds, Thresholds)  # made by `defaults` above
        measured = measure(subject, thresholds, records, on_picture)
        parity = judge(
            measured, labels=len(subject.labels), side_px=max(subject.input_size), available=available
        )
        return Metrics(before=measured.before, after=measured.after), parity


def _require_same_input(frames: FrameSet, family: StreamFamily, config: Any) -> None:
    """Raise ValueError where recordings were preprocessed otherwise than a server will make its windows."""
    window, settings = family.stream_input(config), frames.settings
    stack = REPRESENTATIONS.load(window.representation)(bins=window.bins)
    wanted = {
        "representation": window.representation,
        "bins": window.bins,
        "window_ms": window.window_ms,
        "half": window.halved,
        "frame": (stack.channels, *family.input_size(config)),
        "cutoff": getattr(stack, "cutoff", None),
    }
    for name, value in wanted.items():
        found = getattr(settings, name)
        if found != value:
            raise ValueError(
                f"recordings were preprocessed with {name} {found}, and the model takes {value}; preprocess "
                "them again as it was trained"
            )


def _stream(family: Family) -> StreamFamily:
    if not isinstance(family, StreamFamily):
        raise TypeError(f"{family.name} says that it is of the task stream_detection and is no StreamFamily")
    return family
