"""Multi-label classification: probabilities and class-activation maps out of the graph."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from services.export.held_out import HELD_OUT_PICTURES, LabelledSet
from services.export.problems import IncompleteRun, UnsupportedOption
from services.export.quantize import Method
from services.export.runs import Run
from services.export.tasks.classification_checks import judge
from services.export.tasks.classification_measurement import measure
from services.export.tasks.picture_graph import PictureGraph
from services.export.tasks.task import OnPicture, ServingDefaults, Subject
from shared.data.classification_splits import read_classification_splits
from shared.data.formats.classification import find_own_splits, read_classification_set
from shared.data.split_file import read_split_file
from shared.families.family import ClassificationFamily, Family
from shared.repository.manifest import LabelThresholds, Metrics, Precision

THRESHOLDS = "thresholds.json"
SPLITS = "splits.json"
DEFAULT_THRESHOLD = 0.5


class ClassificationGraph(PictureGraph):
    """images uint8 [N, H, W, 3] RGB -> probabilities [N, C], activation_maps [N, C, h, w], logits [N, C].

    All are float32. The mean of a class's map over its places is its logit. The logits are the raw output.
    With `half` the network computes in float16 between a float32 input and float32 outputs.
    """

    outputs = ("probabilities", "activation_maps")

    def __init__(
        self, family: ClassificationFamily, config: Any, network: nn.Module, *, half: bool = False
    ) -> None:
        super().__init__(family.input_size(config))
        self.network: Any = (network.half() if half else network.float()).eval()
        self.half_precision = half
        self._decode = family.decode
        self._config = config
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.permute(0, 3, 1, 2).float() / 255  # [N, 3, H, W] in 0..1
        features = self.network.features(pixels.half() if self.half_precision else pixels)
        logits = self.network.classify(features).float()
        maps = self.network.activation_maps(features).float()
        return self._decode(self._config, logits), maps, logits


class ClassificationExport:
    """See ExportTask."""

    # A small defect is a few strong responses in thousands of places, which a percentile would clip.
    calibration: Method = "minmax"
    held_out = HELD_OUT_PICTURES

    def refuse(self, run: Run, precision: Precision, *, end_to_end: bool) -> None:
        if end_to_end:
            raise UnsupportedOption(
                f"end_to_end puts non-maximum suppression into the graph, and run {run.run_id} is a "
                f"classification ({run.config.family}), which has no boxes to suppress; leave it out"
            )

    def graph(
        self, family: Family, config: Any, network: nn.Module, *, half: bool = False
    ) -> ClassificationGraph:
        if not isinstance(family, ClassificationFamily):
            raise TypeError(f"{family.name} says it is of the task classification and is no such family")
        return ClassificationGraph(family, config, network, half=half)

    def defaults(self, run: Run, family: Family, config: Any) -> ServingDefaults:
        """Return the thresholds that training chose on its validation split; 0.5 for a run without."""
        path = run.path / THRESHOLDS
        if not path.is_file():
            note = f"the run has no {THRESHOLDS}, so a label counts as present from {DEFAULT_THRESHOLD} on"
            return ServingDefaults(LabelThresholds(probability=[DEFAULT_THRESHOLD] * len(run.labels)), note)
        try:
            document = json.loads(path.read_bytes())
            names = document.get("class_names", run.labels)
            thresholds = LabelThresholds(probability=document["probability"])
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise IncompleteRun(
                f"{path} cannot be read ({error!r}); train again, or remove it to serve with "
                f"{DEFAULT_THRESHOLD} for every label",
                run=run.run_id,
            ) from error
        if names != run.labels or len(thresholds.probability) != len(run.labels):
            raise IncompleteRun(
                f"{path} holds {len(thresholds.probability)} thresholds for {names}, and the run's labels "
                f"are {run.labels}; the folder holds parts of different runs",
                run=run.run_id,
            )
        return ServingDefaults(thresholds)

    def read_sets(self, run: Run, path: Path) -> tuple[LabelledSet, LabelledSet]:
        """The parts that the run's own splits.json names, where the format itself knows no splits."""
        data = run.config.data
        own = run.path / SPLITS
        if own.is_file() and not find_own_splits(path, format=data.format):
            whole = read_classification_set(path, format=data.format, class_names=run.labels)
            parts = read_split_file(own).apply(whole, others=True)
            return parts["train"], parts.get("val", parts["train"])  # no "val": judged by the training set
        splits = read_classification_splits(data, path, run.labels, run.config.seed, check_leaks=False)
        return splits.train, splits.val

    def finish(
        self, file: Path, labels: Sequence[str], defaults: ServingDefaults, *, end_to_end: bool
    ) -> None:
        """Nothing belongs behind the network: requests choose their thresholds."""

    def inner_tensors(self, *, end_to_end: bool) -> Mapping[str, int]:
        return {}

    def judge(
        self, subject: Subject, records: Sequence[Any], available: int, on_picture: OnPicture
    ) -> tuple[Metrics, dict[str, Any]]:
        thresholds = subject.defaults.thresholds
        assert isinstance(thresholds, LabelThresholds)  # made by `defaults` above
        measured = measure(subject, thresholds.probability, records, on_picture)
        parity = judge(measured, subject.precision, available=available, note=subject.defaults.note)
        return Metrics(before=measured.before, after=measured.after), parity
