"""Training as a job: what the worker calls for kind `train`."""

from typing import Any, NoReturn

from shared.config import ConfigError, compose_run
from shared.core.files import PathEscapesRoot, resolve_under
from shared.jobs.context import JobCancelled, JobContext, JobRefused, JobReleased
from shared.jobs.params import files_read
from training.errors import (
    BaselineUnusable,
    CheckpointUnreadable,
    DataUnusable,
    NonFiniteLoss,
    ResumeMismatch,
    RunStopped,
    StopReason,
    WeightsUnusable,
)


class JobControl:
    """A RunControl over a job's context."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def stop_requested(self) -> StopReason | None:
        return self._context.stop_requested()

    def ensure_owned(self) -> None:
        self._context.ensure_lease()

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - the word of the job events
        self._context.report(type, **data)


def run(context: JobContext) -> dict[str, Any]:
    """Train as `context.params` {family, recipe, overrides} says; another attempt goes on where one stopped.

    Returns {run_id, run_dir, metrics, …}. Raises JobRefused for what would fail again in the same way,
    JobCancelled and JobReleased when stopped; everything else may be tried again.
    """
    from training.run import train

    params, settings = context.params, context.settings
    assert settings.data_root is not None
    try:
        config = compose_run(
            params["family"], params.get("recipe", "recommended"), params.get("overrides", [])
        )
        for path in files_read(config).values():
            resolve_under(settings.data_root, path)
    except (ConfigError, PathEscapesRoot) as error:
        raise JobRefused(str(error)) from error
    try:
        summary = train(
            config,
            context.run_dir,
            control=JobControl(context),
            data_root=settings.data_root,
            mlflow_uri=settings.mlflow_uri or "",
        )
    except RunStopped as stopped:
        _raise_as_job(stopped)
    except NonFiniteLoss as error:
        raise JobRefused(str(error), step=error.step, epoch=error.epoch, lr=error.lr) from error
    except (
        BaselineUnusable,
        CheckpointUnreadable,
        DataUnusable,
        ResumeMismatch,
        WeightsUnusable,
    ) as error:
        raise JobRefused(str(error)) from error
    return summary.as_json()


def _raise_as_job(stopped: RunStopped) -> NoReturn:
    match stopped.reason:
        case "cancel":
            raise JobCancelled(str(stopped)) from stopped
        case "shutdown":
            raise JobReleased(str(stopped)) from stopped
        case _:  # the lease is another worker's: nothing more to say about this attempt
            raise stopped
