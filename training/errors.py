"""Why a training ended before its time. Each can cross a process boundary: its arguments are its state."""

from pathlib import Path
from typing import Literal

StopReason = Literal["cancel", "shutdown", "lease_lost", "interrupt"]


class TrainingError(RuntimeError):
    """Base of the errors that a run gives up with; the text says what to do."""


class NonFiniteLoss(TrainingError):
    """A loss term, or a weight, became infinite or not a number."""

    def __init__(
        self, term: str, value: float, epoch: int, step: int, lr: float, last_good: Path | None
    ) -> None:
        super().__init__(term, value, epoch, step, lr, last_good)
        self.term, self.value, self.epoch, self.step, self.lr = term, value, epoch, step, lr
        self.last_good = last_good

    def __str__(self) -> str:
        kept = (
            f"the last good checkpoint is {self.last_good}"
            if self.last_good
            else "no epoch had ended, so there is no checkpoint"
        )
        return (
            f"{self.term} became {self.value} at step {self.step} (epoch {self.epoch}, learning rate "
            f"{self.lr:.3g}); {kept}. Lower optimizer.lr or set trainer.gradient_clip_norm."
        )


class DiskFull(TrainingError):
    """There was no room for a file; the one that stood there before is untouched."""

    def __init__(self, path: Path, last_good: Path | None) -> None:
        super().__init__(path, last_good)
        self.path, self.last_good = path, last_good

    def __str__(self) -> str:
        kept = f"{self.last_good} is intact" if self.last_good else "there is no checkpoint yet"
        return f"no space left to write {self.path}; {kept}. Make room and start the same run again."


class ResumeMismatch(TrainingError):
    """A run folder holds another run than the one that was asked for."""


class CheckpointUnreadable(TrainingError):
    """A checkpoint is damaged, or holds something else than the state of a run."""


class DataUnusable(TrainingError):
    """The data set cannot be trained on."""


class WeightsUnusable(TrainingError):
    """The file that `model.weights` names cannot be started from."""


class BaselineUnusable(TrainingError):
    """The run that `tracking.baseline` names cannot be compared with."""


class RunStopped(Exception):
    """The run ended because someone asked for it. What was saved lies in `run_dir`."""

    def __init__(self, reason: StopReason, run_dir: Path, last_epoch: int) -> None:
        super().__init__(reason, run_dir, last_epoch)
        self.reason, self.run_dir, self.last_epoch = reason, run_dir, last_epoch

    def __str__(self) -> str:
        if not self.last_epoch:
            return f"stopped ({self.reason}) before the first epoch ended; {self.run_dir} holds no checkpoint"
        return f"stopped ({self.reason}); {self.run_dir} holds the state after epoch {self.last_epoch}"
