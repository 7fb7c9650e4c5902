"""What the application keeps while it runs, and how a route gets at it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from services.export.metrics import ExportMetrics
from shared.jobs.store import JobStore
from shared.jobs.submission import Submitter


@dataclass(frozen=True)
class ExportState:
    store: JobStore
    submitter: Submitter
    runs_root: Path
    metrics: ExportMetrics


def _state(request: Request) -> ExportState:
    state: ExportState = request.app.state.export
    return state


State = Annotated[ExportState, Depends(_state)]
