"""Optimiser and learning rate, from the config."""

import math
from typing import Any

import torch
from torch import nn

from shared.config import OptimizerConfig, RunConfig, ScheduleConfig

_PLATEAU_THRESHOLD = 1e-4  # smallest relative improvement that counts, as in torch's ReduceLROnPlateau

# specs/events.md section 9, "Training": one cycle of straight lines.
_CYCLE_PEAK = 0.005  # of all steps
_CYCLE_START, _CYCLE_END = 1 / 20, 1 / 10000  # of the full rate


def scaled_lr(config: RunConfig) -> float:
    """Return the learning rate for the real batch: linear in it where `lr_reference_batch` is set."""
    reference = config.optimizer.lr_reference_batch
    if reference is None:
        return config.optimizer.lr
    trainer = config.trainer
    batch = trainer.batch_size * trainer.accumulate_grad_batches * trainer.devices
    return config.optimizer.lr * batch / reference


def build_optimizer(config: OptimizerConfig, network: nn.Module, lr: float) -> torch.optim.Optimizer:
    """Return the optimiser over `network`; weight decay spares biases, normalisation and layer scales."""
    trained = [p for p in network.parameters() if p.requires_grad]
    decayed = [p for p in trained if not _one_number_per_channel(p)]
    spared = [p for p in trained if _one_number_per_channel(p)]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    match config.name:
        case "adam":
            return torch.optim.Adam(groups, lr=lr, betas=(config.momentum, 0.999))
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr, betas=(config.momentum, 0.999))
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.momentum > 0)


def _one_number_per_channel(parameter: nn.Parameter) -> bool:
    """Whether it is [C], or the same with sides of one behind, as ConvNeXt's layer scales [C, 1, 1]."""
    return parameter.ndim <= 1 or (parameter.ndim == 3 and parameter.shape[1:].numel() == 1)


class LearningRate:
    """The learning rate at each optimiser step: linear warm-up, then plateau, cosine or constant; or a cycle.

    `higher_is_better` tells the plateau which way its metric improves.
    """

    def __init__(
        self,
        config: ScheduleConfig,
        base_lr: float,
        steps_per_epoch: int,
        max_epochs: int,
        *,
        higher_is_better: bool,
    ) -> None:
        self._config, self._base_lr = config, base_lr
        self._steps_per_epoch, self._max_epochs = steps_per_epoch, max_epochs
        self._sign = 1.0 if higher_is_better else -1.0
        self._scale = 1.0  # what the plateau has left of the base
        self._best: float | None = None
        self._bad_epochs = 0

    def at(self, step: int) -> float:
        """Return the learning rate of optimiser step `step`, counted from 0 over the whole run."""
        config = self._config
        epoch = step / self._steps_per_epoch
        if epoch < config.warmup_epochs:
            return config.warmup_lr + (self._base_lr - config.warmup_lr) * epoch / config.warmup_epochs
        if config.name == "one_cycle":
            return max(self._base_lr * self._one_cycle(step), config.min_lr)
        lr = self._base_lr * self._scale
        if config.name == "cosine":
            length = max(self._max_epochs - config.warmup_epochs, 1e-9)
            progress = min((epoch - config.warmup_epochs) / length, 1.0)
            lr *= (1 + math.cos(math.pi * progress)) / 2
        return max(lr, config.min_lr)

    def _one_cycle(self, step: int) -> float:
        """The share of the full rate at `step`; the last step of the run has the lowest."""
        steps = self._steps_per_epoch * self._max_epochs
        peak, last = max(_CYCLE_PEAK * steps - 1, 0.0), max(steps - 1, 1)  # counted from 0
        if step < peak:
            return _CYCLE_START + (1 - _CYCLE_START) * step / peak
        return 1 - (1 - _CYCLE_END) * min((step - peak) / (last - peak), 1.0)

    def after_evaluation(self, metric: float, epochs_done: int) -> bool:
        """Tell the plateau the monitored number; return whether the learning rate fell.

        Nothing is counted during the warm-up, whose first epochs say little about the full rate.
        """
        if self._config.name != "plateau" or epochs_done <= self._config.warmup_epochs:
            return False
        value = self._sign * metric
        if self._best is None or value > self._best + _PLATEAU_THRESHOLD * abs(self._best):
            self._best, self._bad_epochs = value, 0
            return False
        self._bad_epochs += 1
        if self._bad_epochs <= self._config.patience:
            return False
        self._scale, self._bad_epochs = self._scale * self._config.factor, 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return numbers only."""
        return {"scale": self._scale, "best": self._best, "bad_epochs": self._bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._scale, self._best, self._bad_epochs = state["scale"], state["best"], state["bad_epochs"]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
