"""Lightning's loop over one run, in one process: from the splits to weights and a checkpoint."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException

from shared.config import RunConfig, TrainerConfig
from shared.data.splits import Splits
from shared.families.registry import config_class, get_family
from training.callbacks import EndOfEpoch, EpochSeeds, StepWatch, stop_if_asked
from training.checkpoint import AtomicCheckpointIO, read_checkpoint
from training.control import RunControl
from training.errors import RunStopped, TrainingError
from training.module import RunModule
from training.run_folder import RunFolder
from training.splits import usable_data
from training.tasks import TASKS

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]


def uses_gpu(config: TrainerConfig) -> bool:
    """Whether the run computes on GPUs; raises TrainingError if it asks for more than there are."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.accelerator == "cpu" or (config.accelerator == "auto" and not there):
        return False
    if config.devices > there:
        raise TrainingError(f"trainer.devices={config.devices}, but this machine has {there} usable GPUs")
    return True


def resolve_precision(config: TrainerConfig) -> Precision:
    """Return Lightning's name of the precision; auto is mixed on a GPU and single on a CPU."""
    gpu = uses_gpu(config)
    if config.precision == "auto":
        if not gpu:
            return "32-true"
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    if config.precision == "16-mixed" and not gpu:
        raise TrainingError("trainer.precision=16-mixed needs a GPU; use 32 or bf16-mixed on a CPU")
    return "32-true" if config.precision == "32" else config.precision


@usable_data()
def fit(
    config: RunConfig,
    folder: RunFolder,
    splits: Splits[Any],
    control: RunControl,
    *,
    rank: int = 0,
    data_root: Path | None = None,
) -> None:
    """Train until max_epochs or early stopping, from checkpoints/last.ckpt where there is one.

    Leaves weights, checkpoint and results.csv in `folder`. Raises RunStopped, NonFiniteLoss, DiskFull.
    `rank` is this process's place among the `trainer.devices` processes that training.devices starts;
    relative paths of files to start from are taken from `data_root`.
    """
    trainer_config = config.trainer
    family = get_family(config.family)
    task = TASKS[family.task]
    model_config = config_class(config.family)(**config.model)
    gpu = uses_gpu(trainer_config)
    checkpoint = folder.checkpoint if folder.checkpoint.exists() else None
    first_epoch = len(read_checkpoint(checkpoint)["sightline"]["history"]["rows"]) if checkpoint else 0

    def stop_while_loading() -> None:
        stop_if_asked(control, folder.path, first_epoch)

    def log(text: str) -> None:
        if rank == 0:
            control.report("log", message=text)

    train_batches = task.training_loader(
        family,
        model_config,
        config,
        splits.train,
        first_epoch=first_epoch,
        rank=rank,
        pin_memory=gpu,
        after_sample=stop_while_loading,
        log=log,
    )
    val_batches = task.evaluation_loader(
        family, model_config, config, splits.val, kept=True, after_sample=stop_while_loading
    )
    torch.manual_seed(config.seed)  # the first weights
    network = family.build(model_config)
    if checkpoint is None:
        note = task.start(family, network, model_config, data_root or Path())
        if note:
            log(note)
    module = RunModule(
        config,
        family,
        model_config,
        network,
        task.criterion(family, model_config, splits.train),
        steps_per_epoch=math.ceil(len(train_batches) / trainer_config.accumulate_grad_batches),
        checkpoint=folder.checkpoint,
    )
    with quiet_lightning():
        trainer = build_trainer(
            trainer_config,
            [
                EpochSeeds(config.seed),
                StepWatch(control, folder),
                EndOfEpoch(control, folder, family, val_batches),
            ],
            default_root_dir=str(folder.path),
        )
        try:
            trainer.fit(
                module, train_batches, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True
            )
        except SIGTERMException as error:  # Lightning's own look at the signal came before ours
            raise RunStopped("shutdown", folder.path, module.history.epochs) from error


def build_trainer(config: TrainerConfig, callbacks: list[pl.Callback], **arguments: Any) -> pl.Trainer:
    """Return a Lightning trainer that only loops: logging, saving and showing is the callbacks' business."""
    return pl.Trainer(
        accelerator="gpu" if uses_gpu(config) else "cpu",
        devices=config.devices,
        strategy="ddp" if config.devices > 1 or config.strategy == "ddp" else "auto",
        precision=resolve_precision(config),
        max_epochs=config.max_epochs,
        accumulate_grad_batches=config.accumulate_grad_batches,
        gradient_clip_val=config.gradient_clip_norm or config.gradient_clip_value or None,
        gradient_clip_algorithm="value" if config.gradient_clip_value else "norm",
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **arguments,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's notes about hardware and loaders inside the block; its errors stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        logger.setLevel(level)
