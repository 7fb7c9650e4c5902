"""POST /v1/exports makes one job and says so; runs are listed as far as they can be read."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from services.export.main import create_app
from services.export.runs import Run
from shared.core.settings import CommonSettings

BODY = {"run_id": "toy-run", "name": "toy", "precision": "int8"}


@pytest.fixture
def client(run: Run, tmp_path: Path) -> Iterator[TestClient]:
    # No Redis listens there: an export is accepted all the same, and its wake-up sent later.
    settings = CommonSettings(
        var_dir=tmp_path, runs_root=run.path.parent, redis_url="redis://127.0.0.1:1/0", log_level="error"
    )
    with TestClient(create_app(settings)) as client:
        yield client


def test_an_export_is_accepted_as_a_job_and_found_again(client: TestClient) -> None:
    answer = client.post("/v1/exports", json=BODY)
    assert answer.status_code == 202
    job = answer.json()
    assert (job["kind"], job["state"]) == ("export", "queued")
    assert job["params"] == BODY | {"end_to_end": False, "promote": True}
    assert client.get(answer.headers["Location"]).json()["id"] == job["id"]
    assert [each["id"] for each in client.get("/v1/exports").json()["jobs"]] == [job["id"]]


def test_the_same_idempotency_key_makes_one_job_and_another_body_is_a_conflict(client: TestClient) -> None:
    headers = {"Idempotency-Key": "once"}
    first = client.post("/v1/exports", json=BODY, headers=headers)
    again = client.post("/v1/exports", json=BODY, headers=headers)
    other = client.post("/v1/exports", json=BODY | {"precision": "fp32"}, headers=headers)
    assert (first.status_code, again.status_code, other.status_code) == (202, 200, 409)
    assert first.json()["id"] == again.json()["id"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"run_id": "nobody"}, 404),
        ({"run_id": ".."}, 422),
        ({"name": "../up"}, 422),
        ({"name": "Upper"}, 422),
        ({"precision": "fp8"}, 422),
        ({"surplus": 1}, 422),
    ],
)
def test_what_cannot_be_meant_is_refused_and_makes_no_job(
    client: TestClient, change: dict, status: int
) -> None:
    answer = client.post("/v1/exports", json=BODY | change)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/v1/exports").json()["jobs"] == []


def test_an_unknown_run_is_answered_with_the_latest_ones(client: TestClient) -> None:
    assert "toy-run" in client.post("/v1/exports", json=BODY | {"run_id": "nobody"}).json()["detail"]


def test_a_job_of_another_kind_is_no_export(client: TestClient) -> None:
    store = client.app.state.export.store  # type: ignore[attr-defined]
    job, _ = store.submit("train", {})
    assert client.get(f"/v1/exports/{job.id}").status_code == 404
    assert client.get("/v1/exports").json()["jobs"] == []


def test_runs_are_listed_and_damaged_ones_say_what_is_wrong(client: TestClient, run: Run) -> None:
    damaged = run.path.parent / "damaged"
    damaged.mkdir(exist_ok=True)
    (damaged / "config.yaml").write_text("family: nobody\n")
    runs = {each["run_id"]: each for each in client.get("/v1/runs").json()["runs"]}
    assert runs["toy-run"]["exportable"]
    assert runs["toy-run"]["family"] == "person"
    assert not runs["damaged"]["exportable"]
    assert "nobody" in runs["damaged"]["problem"]
    assert client.get("/v1/runs/toy-run").json()["recipe"] == "recommended"
    assert client.get("/v1/runs/nobody").status_code == 404
    assert client.get("/v1/runs/..%2f..%2fetc").status_code == 404
    assert client.get(f"/v1/runs/{'a' * 300}").status_code == 404  # longer than a file's name can be
