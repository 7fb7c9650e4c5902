"""The run in MLflow. A tracking server that fails costs a warning, never the training."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared.config import RunConfig
from training.run_folder import RunFolder

_GIVE_UP_AFTER = 3  # failures in a row; a server that answers none of them is not asked again
_RUN_TAG = "sightline.run_id"


class Tracker:
    """Logs to the MLflow run that carries this run's id, made on first use, found again on resume.

    `failures` counts calls that failed; metrics.json states them.
    """

    def __init__(self, config: RunConfig, folder: RunFolder, uri: str) -> None:
        self._config, self._folder, self._uri = config, folder, uri
        self.enabled = config.tracking.enabled and bool(uri)
        self.failures = 0
        self.last_error: str | None = None
        self._failures_in_a_row = 0
        self._client: Any = None
        self._mlflow_run: str | None = None

    def log_epoch(self, row: dict[str, Any]) -> str | None:
        """Log one epoch's numbers; return a warning for the user at the first failure and when giving up."""
        from time import time

        def log() -> None:
            from mlflow.entities import Metric

            now_ms = int(time() * 1000)
            metrics = [
                Metric(name, float(value), now_ms, row["epoch"])
                for name, value in row.items()
                if isinstance(value, int | float) and name not in ("epoch", "max_epochs", "best")
            ]
            self._client.log_batch(self._mlflow_run, metrics=metrics)

        return self._try(log)

    def log_result(self, metrics: dict[str, float | None], files: list[Path]) -> str | None:
        """Log the final numbers and copy files; return a warning as `log_epoch` does."""

        def log() -> None:
            for name, value in metrics.items():
                if value is not None:
                    self._client.log_metric(self._mlflow_run, name, value)
            for file in files:
                self._client.log_artifact(
                    self._mlflow_run, str(file), file.parent.name if _is_plot(file) else None
                )

        return self._try(log)

    def end(self, status: str) -> None:
        """Close the MLflow run as FINISHED, FAILED or KILLED."""
        if self._mlflow_run is not None:
            self._try(lambda: self._client.set_terminated(self._mlflow_run, status))

    def state(self) -> dict[str, Any]:
        """Return what metrics.json says about tracking."""
        return {
            "enabled": self.enabled,
            "mlflow_run_id": self._mlflow_run,
            "failures": self.failures,
            "last_error": self.last_error,
        }

    def _try(self, log: Callable[[], None]) -> str | None:
        if not self.enabled or self._failures_in_a_row >= _GIVE_UP_AFTER:
            return None
        try:
            if self._client is None or self._mlflow_run is None:
                self._open()
            log()
        except Exception as error:  # noqa: BLE001 - whatever a tracking server does, the training goes on
            self.failures += 1
            self._failures_in_a_row += 1
            self.last_error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if self._failures_in_a_row == _GIVE_UP_AFTER:
                return f"MLflow failed {_GIVE_UP_AFTER} times in a row and is left alone: {self.last_error}"
            if self.failures == 1:
                address = _without_password(self._uri)
                return f"MLflow at {address} failed, the training goes on: {self.last_error}"
            return None
        self._failures_in_a_row = 0
        return None

    def _open(self) -> None:
        # MLflow's own patience (7 retries, 120 s each) would hold up every epoch.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of every table that it makes

        if self._uri.startswith("sqlite:///"):
            Path(self._uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        client = MlflowClient(tracking_uri=self._uri)
        experiment = client.get_experiment_by_name(self._config.tracking.experiment)
        experiment_id = (
            experiment.experiment_id
            if experiment
            else client.create_experiment(
                self._config.tracking.experiment, artifact_location=_artifact_location(self._uri)
            )
        )
        found = client.search_runs(
            [experiment_id], f"tags.`{_RUN_TAG}` = '{self._folder.run_id}'", max_results=1
        )
        if found:
            self._mlflow_run = found[0].info.run_id
            client.set_terminated(self._mlflow_run, "RUNNING")
        else:
            run = client.create_run(
                experiment_id, tags={_RUN_TAG: self._folder.run_id}, run_name=self._folder.run_id
            )
            self._mlflow_run = run.info.run_id
            for key, value in _parameters(self._config).items():
                client.log_param(self._mlflow_run, key, value)
        self._client = client


def _parameters(config: RunConfig) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for section, values in config.model_dump(mode="json").items():
        if isinstance(values, dict):
            parameters |= {f"{section}.{key}": value for key, value in values.items()}
        else:
            parameters[section] = values
    return parameters


def _artifact_location(uri: str) -> str | None:
    """Beside the database for SQLite, whose default is the current folder; else the server's choice."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).absolute().parent / "mlflow-artifacts").as_uri()


def _is_plot(file: Path) -> bool:
    return file.suffix == ".png"


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return scheme + separator + rest.rpartition("@")[2]
