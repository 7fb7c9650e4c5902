"""Runs that can be exported."""

from fastapi import APIRouter

from services.export.problems import UnknownRun
from services.export.runs import find_run, list_runs, summarise
from services.export.schemas import RunList, RunSummary
from services.export.state import State
from shared.core.http import problem_responses

router = APIRouter(prefix="/v1/runs", tags=["runs"])


@router.get("", summary="List runs, the latest first")
def show_all(state: State) -> RunList:
    return RunList(runs=[RunSummary.model_validate(run) for run in list_runs(state.runs_root)])


@router.get("/{run_id}", summary="Show a run", responses=problem_responses(UnknownRun))
def show(run_id: str, state: State) -> RunSummary:
    return RunSummary.model_validate(summarise(find_run(state.runs_root, run_id)))
