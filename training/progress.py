"""What a person sees of a run on stderr: one bar with the numbers that matter, or a line per epoch."""

from types import TracebackType
from typing import Any, Literal, Self

from training.control import RunControl
from training.errors import StopReason
from training.tracking import Tracker


class Progress:
    """A RunControl in front of another: passes everything on, records epochs, and shows what is asked for."""

    def __init__(
        self,
        control: RunControl,
        tracker: Tracker,
        *,
        show: Literal["bar", "lines", "none"],
        headline: tuple[str, ...],
        samples: str,
    ) -> None:
        self._control, self._tracker, self._headline = control, tracker, headline
        self._samples = samples
        self._bar = _Bar(headline[0], samples) if show == "bar" else None
        self._lines = show == "lines"

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.rich.stop()
        self._tracker.end("FINISHED" if error is None else "KILLED" if _was_stopped(error) else "FAILED")

    def stop_requested(self) -> StopReason | None:
        return self._control.stop_requested()

    def ensure_owned(self) -> None:
        self._control.ensure_owned()

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - the word of the job events
        """Pass an event on, to MLflow (epochs) and to whoever watches."""
        self._control.report(type, **data)
        if self._bar:
            self._bar.show(type, data)
        elif self._lines:
            _print_line(type, data, self._headline, self._samples)
        if type == "epoch" and (warning := self._tracker.log_epoch(data)):
            self.report("log", message=warning)


class _Bar:
    """Epoch, loss, the number to follow the run by, pictures or windows a second and the time left."""

    def __init__(self, followed: str, samples: str) -> None:
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        from shared.cli.console import err

        self.rich = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %  loss {task.fields[loss]}"),
            TextColumn(followed + " {task.fields[followed]}"),
            TextColumn("{task.fields[rate]} " + f"{samples}/s"),
            TimeRemainingColumn(),
            console=err,
        )
        self._task = self.rich.add_task("preparing", total=None, loss="–", followed="–", rate="–")
        self._followed = followed

    def show(self, kind: str, data: dict[str, Any]) -> None:
        if kind == "log":
            self.rich.console.print(data["message"], markup=False, highlight=False)
        elif kind == "step":
            self.rich.update(
                self._task,
                total=data["total_steps"],
                completed=data["step"],
                description=f"epoch {data['epoch']}/{data['max_epochs']}",
                loss=f"{data['loss']:.3f}",
            )
        elif kind == "epoch":
            followed = data.get(self._followed)
            total = self.rich.tasks[0].total
            fields = {"loss": f"{data['loss']:.3f}", "rate": f"{data['images_per_s']:.1f}"}
            if followed is not None:
                fields["followed"] = f"{followed:.3f}"
            self.rich.update(
                self._task,
                completed=total * data["epoch"] / data["max_epochs"] if total else None,
                description=f"epoch {data['epoch']}/{data['max_epochs']}",
            )
            self.rich.tasks[0].fields |= fields


def _print_line(kind: str, data: dict[str, Any], headline: tuple[str, ...], samples: str) -> None:
    from shared.cli.console import err

    if kind == "epoch":
        numbers = {name: data[name] for name in ("loss", "val_loss", *headline) if data.get(name) is not None}
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        text = f"epoch {data['epoch']}/{data['max_epochs']}  {shown}  {data['images_per_s']:.1f} {samples}/s"
    elif kind == "log":
        text = data["message"]
    else:
        return
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def _was_stopped(error: BaseException) -> bool:
    from training.errors import RunStopped

    return isinstance(error, RunStopped)
