"""What a runner gets, and what it may raise. A runner is `def run(context: JobContext) -> dict`.

A runner asks `stop_requested()` after every step and reacts: `"cancel"`: save, raise JobCancelled;
`"shutdown"`: save, raise JobReleased, another worker goes on; `"lease_lost"`: write nothing more and raise
whatever is at hand, since the job belongs to someone else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from shared.core.settings import CommonSettings

StopReason = Literal["cancel", "shutdown", "lease_lost"]


class JobCancelled(Exception):
    """The runner has saved what it had and stopped because the job was cancelled."""


class JobReleased(Exception):
    """The runner has saved what it had and stopped because the worker is shutting down."""


class JobRefused(Exception):
    """The job cannot be done as it was asked for; trying again would not help.

    `detail` tells the user what is wrong and what to do, `numbers` say by how much.
    """

    def __init__(self, detail: str, **numbers: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.numbers = numbers


class Lease(Protocol):
    """The side of a lease that a runner sees through its context."""

    def report(self, type_: str, data: dict[str, Any]) -> None: ...
    def stop_requested(self) -> StopReason | None: ...
    def ensure(self) -> None: ...


@dataclass(frozen=True)
class JobContext:
    """One attempt at a job. `run_dir` is the same in every attempt; the runner makes it when it needs it."""

    job_id: str
    kind: str
    params: dict[str, Any]
    attempt: int
    run_dir: Path
    settings: CommonSettings
    lease: Lease

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - what an event calls it
        """Add an event for those who watch. Returns at once; throttling is the runner's business.

        `progress` (0..1) in `data`, or `epoch` and `max_epochs`, also move the job's progress.
        """
        self.lease.report(type, data)

    def stop_requested(self) -> StopReason | None:
        """Return why the runner should stop, None where it need not. Costs next to nothing."""
        return self.lease.stop_requested()

    def ensure_lease(self) -> None:
        """Raise LeaseLost where another worker owns the job by now.

        To be called right before a file of `run_dir` is put in place; reads one small file.
        """
        self.lease.ensure()


Runner = Callable[[JobContext], dict[str, Any]]
