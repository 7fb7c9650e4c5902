"""The Lightning module around any family's network: what happens in one training step."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from shared.config import RunConfig
from shared.families.family import Family
from training.ema import WeightAverage
from training.errors import NonFiniteLoss
from training.history import History
from training.optimization import LearningRate, build_optimizer, scaled_lr, set_lr
from training.tasks import TASKS
from training.tasks.task import Criterion


class RunModule(pl.LightningModule):
    """Network, weight average, learning rate and history: everything that a checkpoint holds of a run.

    It knows no model and no data: the task's step gives a dict of named loss terms, of which `loss` is
    differentiated, and what the next step is to remember.
    """

    def __init__(
        self,
        config: RunConfig,
        family: Family,
        model_config: Any,
        network: nn.Module,
        criterion: Criterion,
        *,
        steps_per_epoch: int,
        checkpoint: Path,
    ) -> None:
        super().__init__()
        self.run_config, self.family, self.model_config = config, family, model_config
        self.criterion = criterion
        self.task = TASKS[family.task]
        monitors = self.task.monitors
        self.steps_per_epoch = steps_per_epoch
        self.checkpoint = checkpoint
        self.network = network
        if config.trainer.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = config.trainer.ema_decay
        self.average = WeightAverage(self.network, decay) if decay else None
        self.base_lr = scaled_lr(config)
        self.learning_rate = LearningRate(
            config.schedule,
            self.base_lr,
            steps_per_epoch,
            config.trainer.max_epochs,
            higher_is_better=monitors[config.schedule.monitor],
        )
        self.history = History(
            config.trainer.monitor,
            config.trainer.early_stopping_patience,
            higher_is_better=monitors[config.trainer.monitor],
        )
        self.start_epoch()

    @property
    def evaluated_network(self) -> nn.Module:
        """The network whose numbers count and whose weights are written: the average where there is one."""
        return self.average.network if self.average else self.network

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.run_config.optimizer, self.network, self.base_lr)

    def on_fit_start(self) -> None:
        if self.average:  # not a registered part, so that no strategy synchronises it
            self.average.network.to(self.device)

    def start_epoch(self) -> None:
        """Forget the last epoch: its sums, and what its streams left in memory.

        So a run that goes on from the end of an epoch starts the next one as an undisturbed run does.
        """
        self._memory: Any = None
        self._term_sums: dict[str, Tensor] = {}
        self.epoch_steps = 0
        self.epoch_samples = 0
        self.epoch_counts: dict[str, int] = {}

    def training_step(self, batch: Any, batch_index: int) -> Tensor:
        step = self.task.step(
            self.network,
            self.criterion,
            batch,
            self._memory,
            channels_last=self.run_config.trainer.channels_last,
        )
        self._memory = step.memory
        self._require_finite(step.losses)
        for name, term in step.losses.items():
            # Sums stay on the device: reading one would wait for it.
            self._term_sums[name] = self._term_sums.get(name, 0) + term.detach()
        self.epoch_steps += 1
        self.epoch_samples += step.samples
        for name, count in step.counts.items():
            self.epoch_counts[name] = self.epoch_counts.get(name, 0) + count
        return step.losses["loss"]

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        set_lr(optimizer, self.learning_rate.at(self.global_step))
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.average:
            self.average.update(self.network)

    def mean_terms(self) -> dict[str, float]:
        """Return the mean of each loss term over the epoch so far."""
        return {name: float(total) / self.epoch_steps for name, total in self._term_sums.items()}

    def require_finite_weights(self) -> None:
        """Raise NonFiniteLoss if a weight is not finite; asked before a checkpoint replaces a good one."""
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                raise self._non_finite(f"the network's {name}", math.nan)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["sightline"] = {
            "average": self.average.state_dict() if self.average else None,
            "learning_rate": self.learning_rate.state_dict(),
            "history": self.history.state_dict(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["sightline"]
        if self.average:
            self.average.load_state_dict(state["average"])
        self.learning_rate.load_state_dict(state["learning_rate"])
        self.history.load_state_dict(state["history"])

    def _require_finite(self, losses: dict[str, Tensor]) -> None:
        if bool(torch.isfinite(losses["loss"])):
            return
        bad = {name: float(term.detach()) for name, term in losses.items() if not bool(torch.isfinite(term))}
        term, value = next(
            ((name, value) for name, value in bad.items() if name != "loss"), ("loss", bad["loss"])
        )
        raise self._non_finite(f"the loss term {term!r}" if term != "loss" else "the loss", value)

    def _non_finite(self, what: str, value: float) -> NonFiniteLoss:
        return NonFiniteLoss(
            what,
            value,
            self.current_epoch + 1,
            self.global_step,
            self.learning_rate.at(self.global_step),
            self.checkpoint if self.checkpoint.exists() else None,
        )


@contextmanager
def autocast_of(module: RunModule) -> Iterator[None]:
    """The precision that the trainer's plugin computes in, for evaluation."""
    with module.trainer.precision_plugin.val_step_context():
        yield
