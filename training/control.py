"""What a run and whoever started it say to each other."""

from typing import Any, Protocol

from training.errors import StopReason


class RunControl(Protocol):
    """Given to `train`; asked after every step, told of everything that happens.

    Events: `epoch` {epoch, max_epochs, loss, ap50, ap, images_per_s, …}, `step` {step, total_steps, loss, …}
    at most four a second, `log` {message}.
    """

    def stop_requested(self) -> StopReason | None:
        """Return why the run has to stop now, or None. Must be cheap."""

    def ensure_owned(self) -> None:
        """Raise if the run folder belongs to someone else by now; asked before files are put in place."""

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - the word of the job events
        """Take one event."""


class Unattended:
    """A control that never stops a run and drops its events."""

    def stop_requested(self) -> StopReason | None:
        return None

    def ensure_owned(self) -> None:
        return

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - the word of the job events
        return
