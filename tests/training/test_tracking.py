"""The run in MLflow, and what a tracking server that does not answer costs."""

import json

import pytest

from training.run import train


@pytest.fixture
def tracked(toy_run):
    return lambda *overrides: toy_run("tracking=mlflow", "tracking.experiment=tests", *overrides)


def test_epochs_results_and_files_are_logged_and_a_resumed_run_goes_on_in_the_same_place(tracked, tmp_path):
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    train(tracked("trainer.max_epochs=1"), tmp_path / "run", mlflow_uri=uri)
    train(tracked("trainer.max_epochs=2"), tmp_path / "run", mlflow_uri=uri)
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert run.data.metrics["test/loss"] == pytest.approx(metrics["test"]["loss"])
    assert run.data.params["model.image_size"] == "64"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} >= {"config.yaml", "plots"}
    assert metrics["tracking"]["failures"] == 0


def test_a_tracking_server_that_is_not_there_is_warned_of_and_counted(tracked, tmp_path, scripted_control):
    control = scripted_control()
    train(tracked(), tmp_path / "run", control=control, mlflow_uri="nosuchscheme://nowhere")
    tracking = json.loads((tmp_path / "run" / "metrics.json").read_text())["tracking"]
    assert tracking["failures"] >= 2
    assert tracking["last_error"]
    warnings = [event["message"] for event in control.of("log") if "MLflow" in event["message"]]
    assert "the training goes on" in warnings[0]
