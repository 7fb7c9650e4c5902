"""What the engine does around Lightning's loop: seeds, stops, progress, and the end of an epoch."""

import random
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from shared.families.family import Family
from training.checkpoint import room_for, save_weights
from training.control import RunControl
from training.errors import RunStopped
from training.module import RunModule, autocast_of
from training.run_folder import RunFolder
from training.tasks import TASKS

_STEP_INTERVAL_S = 0.25  # at most four step events a second


def stop_if_asked(control: RunControl, folder: Path, last_epoch: int) -> None:
    """Raise RunStopped if the control asks for it."""
    if reason := control.stop_requested():
        raise RunStopped(reason, folder, last_epoch)


def over_ranks(trainer: pl.Trainer, values: dict[str, float]) -> dict[str, float]:
    """Return each number's sum over the run's processes; every one of them has to ask."""
    strategy = trainer.strategy
    summed = strategy.reduce(
        torch.tensor(list(values.values()), dtype=torch.float64, device=strategy.root_device), reduce_op="sum"
    )
    return dict(zip(values, summed.tolist(), strict=True))


class EpochSeeds(pl.Callback):
    """Seeds every generator from (seed, epoch, rank) at the start of an epoch.

    A resumed run then draws what an undisturbed one draws, with no generator's state to keep.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        words = np.random.SeedSequence(
            (self._seed, trainer.current_epoch, trainer.global_rank)
        ).generate_state(3)
        torch.manual_seed(int(words[0]))  # all devices
        random.seed(int(words[1]))
        np.random.seed(int(words[2]))


class StepWatch(pl.Callback):
    """After every step: stop if asked, and say now and then how far the run is."""

    def __init__(self, control: RunControl, folder: RunFolder) -> None:
        self._control, self._folder = control, folder
        self._last_report_s = 0.0

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stop_if_asked(self._control, self._folder.path, module.history.epochs)
        now_s = time.monotonic()
        if trainer.is_global_zero and now_s - self._last_report_s >= _STEP_INTERVAL_S:
            self._last_report_s = now_s
            batches = int(trainer.num_training_batches)
            self._control.report(
                "step",
                step=trainer.current_epoch * batches + batch_idx + 1,
                total_steps=module.run_config.trainer.max_epochs * batches,
                epoch=trainer.current_epoch + 1,
                max_epochs=trainer.max_epochs,
                loss=float(outputs["loss"].detach()) * trainer.accumulate_grad_batches,
            )


class EndOfEpoch(pl.Callback):
    """Evaluates, judges, saves: after it has run, the run folder holds everything up to this epoch."""

    def __init__(self, control: RunControl, folder: RunFolder, family: Family, val_batches: Any) -> None:
        self._control, self._folder, self._family = control, folder, family
        self._val_batches = val_batches
        self._started_s = 0.0
        self._trained_s = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, module: Any) -> None:
        module.start_epoch()
        self._started_s = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        module.require_finite_weights()
        train_s = time.monotonic() - self._started_s
        row = self._row(trainer, module, train_s)
        row |= trainer.strategy.broadcast(self._evaluate(trainer, module), src=0)
        row["seconds"] = round(time.monotonic() - self._started_s, 3)
        is_best = module.history.add(row)
        if (monitored := row.get(module.run_config.schedule.monitor)) is not None:
            module.learning_rate.after_evaluation(monitored, row["epoch"])
        stop_if_asked(self._control, self._folder.path, module.history.epochs - 1)
        self._control.ensure_owned()
        if trainer.is_global_zero:
            self._save_weights(module, row, is_best)
        trainer.save_checkpoint(self._folder.checkpoint)
        if trainer.is_global_zero:
            with room_for(self._folder.results, self._folder.checkpoint):
                module.history.write_csv(self._folder.results)
            self._control.report("epoch", max_epochs=trainer.max_epochs, best=is_best, **row)
        if module.history.out_of_patience:
            trainer.should_stop = True

    def _row(self, trainer: pl.Trainer, module: RunModule, train_s: float) -> dict[str, Any]:
        ranks = trainer.world_size
        totals = over_ranks(
            trainer,
            {**module.mean_terms(), **module.epoch_counts, "samples": module.epoch_samples},
        )
        samples = int(totals.pop("samples"))
        counts = {name: int(totals.pop(name)) for name in module.epoch_counts}
        terms = {name: total / ranks for name, total in totals.items()}  # as many steps in each rank
        return {
            "epoch": trainer.current_epoch + 1,
            "lr": module.learning_rate.at(max(trainer.global_step - 1, 0)),
            "loss": terms.pop("loss"),
            **{f"loss_{name.removeprefix('loss_')}": value for name, value in terms.items()},
            **counts,
            "images_per_s": round(samples / train_s, 2),
        }

    def _evaluate(self, trainer: pl.Trainer, module: RunModule) -> dict[str, float | None]:
        """Numbers on the validation split, computed by the first rank alone."""
        config = module.run_config.trainer
        epoch = trainer.current_epoch + 1
        due = epoch % config.eval_every_epochs == 0 or epoch == config.max_epochs
        if not due or not trainer.is_global_zero:
            return {}
        numbers = (
            TASKS[self._family.task]
            .evaluate(
                self._family,
                module.model_config,
                module.evaluated_network,
                module.criterion,
                self._val_batches,
                device=module.device,
                autocast=lambda: autocast_of(module),
                channels_last=config.channels_last,
                after_batch=lambda: stop_if_asked(self._control, self._folder.path, module.history.epochs),
            )
            .numbers
        )
        return {"val_loss": numbers.pop("loss"), **numbers}

    def _save_weights(self, module: RunModule, row: dict[str, Any], is_best: bool) -> None:
        monitor: str = module.run_config.trainer.monitor
        judged = {} if row.get(monitor) is None else {monitor: f"{row[monitor]:.6f}"}
        targets = [self._folder.last_weights] + ([self._folder.weights] if is_best else [])
        for path in targets:
            save_weights(
                module.evaluated_network,
                path,
                metadata={"family": self._family.name, "epoch": str(module.history.epochs), **judged},
                last_good=self._folder.checkpoint,
            )
