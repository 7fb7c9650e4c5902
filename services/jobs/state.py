"""What the application keeps while it runs, and how a route gets at it."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from services.jobs.metrics import JobsMetrics
from services.jobs.watching import Watchers
from shared.jobs.reconciler import ReconcilerThread
from shared.jobs.store import JobStore
from shared.jobs.submission import Submitter


@dataclass(frozen=True)
class JobsState:
    store: JobStore
    submitter: Submitter
    watchers: Watchers
    reconciler: ReconcilerThread
    metrics: JobsMetrics


def _state(request: Request) -> JobsState:
    state: JobsState = request.app.state.jobs
    return state


State = Annotated[JobsState, Depends(_state)]
