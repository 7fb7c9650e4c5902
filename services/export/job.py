"""The runner of jobs of kind `export`: the torch side of this service, called by the worker."""

from typing import Any

from services.export.pipeline import ExportRequest, ExportResult, export_run
from services.export.problems import GateRefused, IncompleteRun, UnknownRun, UnsupportedOption
from services.export.runs import find_run, read_run
from shared.jobs.context import JobCancelled, JobContext, JobRefused, JobReleased
from shared.jobs.params import ExportParams
from shared.repository.problems import CorruptVersion, InvalidName, UnknownModel, UnsupportedManifest
from shared.repository.repository import ModelRepository

# Share of the whole time that is over when a step begins.
_STEPS = {"load": 0.0, "trace": 0.05, "calibrate": 0.25, "compare": 0.4, "publish": 0.95}


def run(context: JobContext) -> dict[str, Any]:
    """Export the run that the job names. Returns name, version, path and the parity report.

    A refusal by the gate, or by what the run lacks, ends the job for good: trying again changes nothing.
    """
    params = ExportParams.model_validate(context.params)
    runs_root, data_root = context.settings.runs_root, context.settings.data_root
    repository_root = context.settings.repository_root
    assert runs_root is not None
    assert data_root is not None
    assert repository_root is not None
    repository = ModelRepository(repository_root)
    done = _published_before(repository, params, context)
    if done is not None:
        return done
    try:
        request = ExportRequest(
            run=read_run(find_run(runs_root, params.run_id)),
            name=params.name,
            precision=params.precision,
            end_to_end=params.end_to_end,
            promote=params.promote,
            source_job=context.job_id,
        )
        result = export_run(
            request,
            repository,
            data_root,
            on_step=lambda step, done, total: _on_step(context, step, done, total),
            before_publishing=context.ensure_lease,
        )
    except GateRefused as refusal:
        raise JobRefused(f"the gate refused the export: {refusal.detail}", parity=refusal.report) from refusal
    except (UnknownRun, IncompleteRun, UnsupportedOption, InvalidName) as problem:
        raise JobRefused(problem.detail, **problem.extras) from problem
    return result.as_json()


def _on_step(context: JobContext, step: str, done: int, total: int) -> None:
    is_published = step == "publish" and done == total
    reason = None if is_published else context.stop_requested()
    if reason == "cancel":
        raise JobCancelled
    if reason is not None:
        raise JobReleased
    begins = _STEPS[step]
    ends = min((start for start in _STEPS.values() if start > begins), default=1.0)
    progress = begins + (ends - begins) * done / max(total, 1)
    context.report("step", name=step, step=done, total_steps=total, progress=round(progress, 3))


def _published_before(
    repository: ModelRepository, params: ExportParams, context: JobContext
) -> dict[str, Any] | None:
    """Return the result of an earlier attempt that published its version and died before saying so.

    Looked for in every attempt: a job that is released or retried counts its attempts from the beginning.
    """
    try:
        versions = repository.versions(params.name)
    except UnknownModel:
        return None
    for version in reversed(versions):
        try:
            manifest = repository.manifest(params.name, version)
        except (CorruptVersion, UnsupportedManifest):  # not this job's, or nothing that it could name
            continue
        if manifest.source_job == context.job_id:
            if params.promote and repository.aliases(params.name).get("live") != version:
                repository.promote(params.name, version)
            path = repository.path(params.name, version)
            return ExportResult(
                params.name, version, path, manifest.parity, manifest.metrics, params.promote
            ).as_json()
    return None
