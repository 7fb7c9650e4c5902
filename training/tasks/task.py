"""What the engine asks of a task: of detection, of classification. One file here holds each."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from shared.config import DataConfig, RunConfig
from training.run_folder import RunFolder

# (network's outputs in single precision, a batch's targets) -> named weighted terms, and "loss", their sum.
# A module where it holds anything: what is a buffer in it lies in checkpoints.
Criterion = Callable[[Any, Any], dict[str, Tensor]]


@dataclass
class Step:
    """What a task's training step came to.

    losses: named weighted terms, and "loss", their sum. samples: pictures or windows that it took. counts:
    what is summed over the epoch. memory: what the epoch's next step is given; no gradient goes back into it.
    """

    losses: dict[str, Tensor]
    samples: int
    counts: Mapping[str, int] = field(default_factory=dict)
    memory: Any = None


@dataclass
class Evaluation:
    """A network's numbers on one split.

    numbers: scalars by name, the loss among them. curves: what plots and files need. examples: pairs of a
    record and the network's answer. per_class: numbers by class name, for tasks that tell classes apart.
    thresholds: what the split chose, or was given, to decide by; None where the config states it.
    """

    numbers: dict[str, float | None]
    curves: dict[str, Any]
    examples: list[tuple[Any, Any]]
    per_class: dict[str, dict[str, Any]] = field(default_factory=dict)
    thresholds: list[float] | None = None


class TrainingTask(Protocol):
    """The parts of training, evaluation and run folder that differ between tasks.

    `family` and `model_config` are of one of the task's families; splits, sets and batches are those that the
    task itself made.
    """

    name: str
    headline: tuple[str, ...]  # validation numbers to follow a run by, the most telling first
    monitors: Mapping[str, bool]  # numbers to be judged by; whether more is better
    told: frozenset[str]  # codes of defects in data that check_splits tells in its own words
    parts: str  # what a split is made of: "images"
    samples: str  # what a step takes and a loader draws: "images"
    data_hint: str  # how to look at the data at {path}

    def read_splits(self, config: DataConfig, path: Path, family: Any, model_config: Any, seed: int) -> Any:
        """Return the Splits that `config` names. Raises ValueError, DatasetUnreadable among them, OSError."""

    def check_splits(self, splits: Any, path: Path, log: Callable[[str], None]) -> None:
        """Raise DataUnusable where nothing can be learnt or judged; `log` what only bends the numbers."""

    def training_loader(
        self,
        family: Any,
        model_config: Any,
        config: RunConfig,
        part: Any,
        *,
        first_epoch: int,
        rank: int,
        pin_memory: bool,
        after_sample: Callable[[], None],
        log: Callable[[str], None],
    ) -> DataLoader[Any]:
        """Return this rank's batches of `part`: a function of (config.seed, epoch), as many in every rank.

        `first_epoch`, counted from 0, is where a resumed run goes on: loader processes start before Lightning
        says which epoch it is. `after_sample` is called while samples are read ahead. `log` is told what is
        worth knowing. Raises DataUnusable where there is too little for a step.
        """

    def evaluation_loader(
        self,
        family: Any,
        model_config: Any,
        config: RunConfig,
        part: Any,
        *,
        kept: bool = False,
        after_sample: Callable[[], None] = lambda: None,
    ) -> Any:
        """Return the batches for `evaluate`, each sample of `part` once; `kept`: for more than one pass."""

    def step(
        self, network: nn.Module, criterion: Criterion, batch: Any, memory: Any, *, channels_last: bool
    ) -> Step:
        """Run `network` over a batch on its device; the loss is computed in single precision.

        `memory` is the last step's, None at the start of an epoch.
        """

    def start(self, family: Any, network: nn.Module, model_config: Any, root: Path) -> str | None:
        """Load the weights that a run starts from, where the config names any; return what to tell of it.

        Relative paths are taken from `root`. Raises WeightsUnusable for a file that does not fit.
        """

    def criterion(self, family: Any, model_config: Any, train: Any) -> Criterion:
        """Return the loss, with what it needs to know of the training split."""

    def evaluate(
        self,
        family: Any,
        model_config: Any,
        network: nn.Module,
        criterion: Criterion,
        batches: Any,
        *,
        device: torch.device,
        autocast: Callable[[], AbstractContextManager[Any]],
        channels_last: bool,
        after_batch: Callable[[], None],
        examples: int = 0,
        thresholds: list[float] | None = None,
    ) -> Evaluation:
        """Run `network` (put into evaluation mode, and back) over `batches`, which `evaluation_loader` gave.

        The loss is computed in single precision.

        `thresholds` are those that another split chose; without them this split chooses its own, where the
        task has any to choose.
        """

    def write_inputs(self, folder: RunFolder, config: RunConfig, path: Path, splits: Any) -> None:
        """Write what the run needs besides its config to be repeated; `path` is where the data lies.

        Raises ResumeMismatch where the folder holds a run on other splits.
        """

    def write_results(
        self, folder: RunFolder, splits: Any, evaluations: Mapping[str, Evaluation]
    ) -> dict[str, Any]:
        """Write files of results besides metrics.json; return what metrics.json holds besides the scalars."""

    def write_plots(
        self, folder: RunFolder, rows: list[dict[str, Any]], evaluation: Evaluation, split: str, train: Any
    ) -> list[Path]:
        """Draw the run; return the files."""

    def summary(
        self, metrics: Mapping[str, float | None], per_class: Mapping[str, Any]
    ) -> list[tuple[str, str]]:
        """Return (what, value) for a person, of the final numbers."""
