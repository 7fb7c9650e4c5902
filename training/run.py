"""One training run, from a config to a complete run folder."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import orjson
import torch

from shared.config import ConfigError, DataConfig, RunConfig, dump_run_config, load_run_config
from shared.core.files import write_atomic
from shared.families.registry import config_class, get_family
from training.baseline import read_baseline
from training.checkpoint import read_checkpoint
from training.control import RunControl, Unattended
from training.devices import fit_on_devices
from training.engine import fit, resolve_precision
from training.errors import ResumeMismatch, TrainingError
from training.finish import finish
from training.progress import Progress
from training.run_folder import RunFolder
from training.splits import load_splits
from training.tasks import TASKS
from training.tracking import Tracker

# A resumed run may differ in these: they change how fast it goes or how long, not what an epoch does (but
# for the cosine and the cycle, which are stretched to the new length).
_FREE_ON_RESUME = (
    "trainer.max_epochs",
    "trainer.early_stopping_patience",
    "trainer.num_threads",
    "data.path",
    "data.num_workers",
    "data.cache",
    "tracking",
)


@dataclasses.dataclass(frozen=True)
class RunSummary:
    """What a run came to; `metrics` are the best weights' numbers on `evaluated_on` (test, or else val).

    `per_class` are those numbers by class, for tasks that tell classes apart.
    """

    run_id: str
    run_dir: Path
    epochs: int
    best_epoch: int
    stopped_early: bool
    evaluated_on: str
    metrics: dict[str, float | None]
    per_class: dict[str, dict[str, Any]]
    parameters: int
    training_seconds: float
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the summary in JSON's types."""
        return {**dataclasses.asdict(self), "run_dir": str(self.run_dir)}


def train(
    config: RunConfig,
    run_dir: Path,
    *,
    control: RunControl | None = None,
    progress: Literal["bar", "lines", "none"] = "none",
    data_root: Path | None = None,
    mlflow_uri: str = "",
) -> RunSummary:
    """Train as `config` says, in `run_dir`; go on from its last checkpoint where it holds one.

    A relative `data.path` is taken from `data_root`, or from the current folder without one. The run's events
    go to `control`, which may also stop it; `progress` shows them on stderr. `mlflow_uri` records the run in
    MLflow, where tracking is enabled and the address not empty.

    Raises RunStopped (stop asked for: what was saved stays), TrainingError (NonFiniteLoss, DiskFull,
    ResumeMismatch, CheckpointUnreadable, DataUnusable, WeightsUnusable), each with words for a person.
    """
    started_s = time.monotonic()
    folder = RunFolder(run_dir)
    family = get_family(config.family)
    task = TASKS[family.task]
    model_config = config_class(config.family)(**config.model)
    # These refuse what cannot be done before anything is written.
    resolve_precision(config.trainer)
    read_baseline(config, folder)
    _claim_folder(folder, config, family.class_names(model_config))
    tracker = Tracker(config, folder, mlflow_uri)
    with (
        Progress(
            control or Unattended(), tracker, show=progress, headline=task.headline, samples=task.samples
        ) as listener,
        _threads(config),
    ):
        data_path = (data_root or Path()) / config.data.path
        splits = load_splits(
            task,
            _with_split_file_found(config.data, data_path, data_root or Path()),
            data_path,
            family,
            model_config,
            config.seed,
            lambda text: listener.report("log", message=text),
        )
        task.write_inputs(folder, config, data_path, splits)
        if not _is_fitted(folder, config):
            train_all = fit_on_devices if config.trainer.devices > 1 else fit
            train_all(config, folder, splits, listener, data_root=data_root)
        history = _history(folder)
        metrics = finish(config, folder, splits, listener, tracker, history)
    return RunSummary(
        run_id=folder.run_id,
        run_dir=run_dir,
        epochs=len(history["rows"]),
        best_epoch=history["best_epoch"],
        stopped_early=len(history["rows"]) < config.trainer.max_epochs,
        evaluated_on=metrics["evaluated_on"],
        metrics=metrics[metrics["evaluated_on"]],
        per_class=metrics.get("per_class", {}).get(metrics["evaluated_on"], {}),
        parameters=metrics["parameters"],
        training_seconds=metrics["training_seconds"],
        seconds=round(time.monotonic() - started_s, 3),
    )


def _with_split_file_found(data: DataConfig, path: Path, root: Path) -> DataConfig:
    """Return `data` with the absolute path of a split file under `root`; any other is left to the reader,
    and so is one that lies with the data at `path`."""
    if data.split_file is None or not (root / data.split_file).is_file():
        return data
    if ((path if path.is_dir() else path.parent) / data.split_file).is_file():
        return data
    return data.model_copy(update={"split_file": str((root / data.split_file).absolute())})


def _claim_folder(folder: RunFolder, config: RunConfig, class_names: list[str]) -> None:
    """Write config.yaml and labels.json; ResumeMismatch if another run or another config.yaml lies there."""
    if folder.imported.exists():
        raise ResumeMismatch(
            f"{folder.path} holds imported weights, which training would overwrite; to train on from them, "
            f"start a new run with model.weights={folder.weights}"
        )
    if folder.config.exists():
        try:
            before = load_run_config(folder.config)
        except ConfigError as error:
            raise ResumeMismatch(f"{folder.config} is not the config of a run: {error}") from error
        different = [key for key in _differences(before, config) if not key.startswith(_FREE_ON_RESUME)]
        if different and folder.checkpoint.exists():
            raise ResumeMismatch(
                f"{folder.path} holds a run with another config (different: {', '.join(different)}); "
                "resume it with its own config, or train in another folder"
            )
    write_atomic(folder.config, dump_run_config(config))
    write_atomic(folder.labels, orjson.dumps(class_names))


def _differences(first: RunConfig, second: RunConfig) -> list[str]:
    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        leaves: dict[str, Any] = {}
        for key, value in values.items():
            if isinstance(value, dict):
                leaves |= flat(value, f"{prefix}{key}.")
            else:
                leaves[prefix + key] = value
        return leaves

    a, b = flat(first.model_dump(mode="json")), flat(second.model_dump(mode="json"))
    return sorted(key for key in a.keys() | b.keys() if a.get(key) != b.get(key))


def _history(folder: RunFolder) -> dict[str, Any]:
    history: dict[str, Any] = read_checkpoint(folder.checkpoint)["sightline"]["history"]
    return history


def _is_fitted(folder: RunFolder, config: RunConfig) -> bool:
    """Whether the checkpoint in the folder is the end of the run: only the final evaluation is left to do."""
    if not folder.checkpoint.exists():
        return False
    history = _history(folder)
    patience = config.trainer.early_stopping_patience
    out_of_patience = patience is not None and history["evaluations_since_best"] >= patience
    return out_of_patience or len(history["rows"]) >= config.trainer.max_epochs


@contextmanager
def _threads(config: RunConfig) -> Iterator[None]:
    """Give PyTorch the configured number of threads inside the block."""
    before = torch.get_num_threads()
    if config.trainer.num_threads:
        torch.set_num_threads(config.trainer.num_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


__all__ = ["RunSummary", "TrainingError", "train"]
