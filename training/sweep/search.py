"""A search by Optuna whose trials are jobs. The study lies on disk: the same command goes on with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from shared.config import ConfigError
from training.sweep.numbers import Compared, numbers_of
from training.sweep.points import Point, make_point
from training.sweep.queue import FINAL, Job, OnChange, SweepQueue

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class Axis:
    """One searched setting: a range of numbers, or choices."""

    key: str
    kind: Literal["float", "log", "int", "choice"]
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()

    def described(self) -> str:
        """Return the space as it was written."""
        return ",".join(self.choices) if self.kind == "choice" else f"{self.kind}:{self.low:g}:{self.high:g}"

    def examples(self) -> tuple[str, ...]:
        """Return values as overrides' text that show whether all are allowed: every choice, or both ends."""
        if self.kind == "choice":
            return self.choices
        return tuple(str(int(end)) if self.kind == "int" else repr(end) for end in (self.low, self.high))

    def suggest(self, trial: "optuna.Trial") -> str:
        """Return the trial's value as an override's text."""
        match self.kind:
            case "choice":
                return str(trial.suggest_categorical(self.key, self.choices))
            case "int":
                return str(trial.suggest_int(self.key, int(self.low), int(self.high)))
            case _:
                return repr(trial.suggest_float(self.key, self.low, self.high, log=self.kind == "log"))


def parse_axis(text: str) -> Axis:
    """Read `optimizer.lr=log:1e-5:1e-3`, `…=float:2:10`, `…=int:1:8` or `…=13,26,52`. Raises ConfigError."""
    key, separator, space = text.partition("=")
    problem = ConfigError(
        f"--space {text!r}: expected key=log:LOW:HIGH, key=float:LOW:HIGH, key=int:LOW:HIGH or key=a,b,c"
    )
    if not (key and separator and space):
        raise problem
    kind, *bounds = space.split(":")
    if kind in ("log", "float", "int"):
        try:
            low, high = (float(bound) for bound in bounds)
        except ValueError:
            raise problem from None
        if not low < high or (kind == "log" and low <= 0):
            raise ConfigError(
                f"--space {text!r}: expected LOW below HIGH{', both above 0' * (kind == 'log')}"
            )
        if kind == "int" and not (low.is_integer() and high.is_integer()):
            raise problem
        return Axis(key, kind, low, high)  # type: ignore[arg-type]
    choices = tuple(choice.strip() for choice in space.split(","))
    if not all(choices):
        raise problem
    return Axis(key, "choice", choices=choices)


def search(
    queue: SweepQueue,
    axes: Sequence[Axis],
    fixed: Sequence[str],
    *,
    name: str,
    folder: Path,
    trials: int,
    parallel: int,
    metric: str,
    compared: Compared,
    seed: int,
    on_change: OnChange,
) -> list[tuple[Point, Job]]:
    """Run `trials` trials in all, those of earlier calls included, `parallel` at a time; highest metric wins.

    Returns each trial's point and job in order of the trials. A trial whose job failed counts as failed; two
    trials with the same values are one job. Each metric has its own study, and finds the others' jobs.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=f"{name} by {metric}",
        storage=f"sqlite:///{folder / 'study.db'}",
        direction="maximize",
        load_if_exists=True,
    )
    asked = study.get_trials(deepcopy=False)
    # A sampler seeded alike would draw the first trials' values again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(asked))
    told = {trial.number for trial in asked if trial.state.is_finished()}
    waiting: dict[str, list[tuple[int, Point]]] = {}
    for trial in asked:
        if all(axis.key in trial.params for axis in axes):
            point = _point_of(trial, axes, fixed)
            # The same key finds the same job.
            waiting.setdefault(queue.submit(point)["id"], []).append((trial.number, point))
        elif trial.number not in told:  # interrupted before it had its values
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            told.add(trial.number)
    count, ended = len(asked), dict[int, tuple[Point, Job]]()
    while True:
        while count < trials and count - len(told) < parallel:
            trial_now = study.ask()
            point = make_point({axis.key: axis.suggest(trial_now) for axis in axes}, fixed)
            waiting.setdefault(queue.submit(point)["id"], []).append((trial_now.number, point))
            count += 1
        for job in queue.changed(list(waiting)):
            on_change(waiting[job["id"]][0][1], job)
            if job["state"] not in FINAL:
                continue
            for number, point in waiting.pop(job["id"]):
                ended[number] = (point, job)
                if number not in told:
                    told.add(number)
                    _tell(study, number, job, metric, compared)
        if not waiting and count >= trials:
            return [ended[number] for number in sorted(ended)]
        queue.pause()


def _tell(study: "optuna.Study", number: int, job: Job, metric: str, compared: Compared) -> None:
    import optuna

    value = numbers_of(job["result"], compared)[metric] if job["state"] == "succeeded" else None
    if value is None:
        study.tell(number, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(number, value)


def _point_of(trial: Any, axes: Sequence[Axis], fixed: Sequence[str]) -> Point:
    values = {}
    for axis in axes:
        value = trial.params[axis.key]
        values[axis.key] = str(value) if axis.kind in ("choice", "int") else repr(value)
    return make_point(values, fixed)
