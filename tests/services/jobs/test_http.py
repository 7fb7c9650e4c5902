"""The jobs service over HTTP: submitting, listing, cancelling, retrying, and what it refuses."""

import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from services.jobs.main import create_app
from shared.core.settings import CommonSettings
from shared.jobs.broker import WakeUps
from shared.jobs.schema import JobState
from shared.jobs.settings import QueueSettings
from shared.jobs.store import JobStore
from tests.conftest import RedisServer

pytestmark = pytest.mark.redis

RECOMMENDED = {"family": "person", "recipe": "recommended", "overrides": ["data.path=cctv"]}
TRAIN = {"kind": "train", "params": RECOMMENDED}


def sample(client: TestClient, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return found.value
    return None


def test_a_submission_is_stored_announced_and_found_again(
    client: TestClient, settings: CommonSettings
) -> None:
    response = client.post("/v1/jobs", json=TRAIN)
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert client.get(response.headers["location"]).json() == job
    assert (job["state"], job["params"]) == ("queued", RECOMMENDED)
    assert WakeUps(settings.redis_url).waiting() == 1
    assert sample(client, "sightline_jobs_submissions_total", outcome="created") == 1
    assert sample(client, "sightline_jobs_wake_ups_total", outcome="published") == 1
    assert sample(client, "sightline_jobs", status="queued") == 1


def test_a_repeated_submission_answers_200_with_the_same_job(client: TestClient) -> None:
    key = {"Idempotency-Key": "order-66"}
    first = client.post("/v1/jobs", json=TRAIN, headers=key)
    again = client.post("/v1/jobs", json=TRAIN, headers=key)
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    other = {"kind": "train", "params": {**RECOMMENDED, "recipe": "reference"}}
    conflict = client.post("/v1/jobs", json=other, headers=key)
    assert conflict.status_code == 409
    assert conflict.json()["type"] == "urn:sightline:problem:idempotency_conflict"
    assert conflict.json()["job_id"] == first.json()["id"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"kind": "trian"}, "'train'"),
        ({"kind": "train", "params": {"family": "persn"}}, "'person'"),
        ({"kind": "train", "params": {"family": "person", "recipe": "recomended"}}, "'recommended'"),
        ({"kind": "train", "params": {"family": "person", "overides": []}}, "'overrides'"),
        (
            {"kind": "train", "params": {"family": "person", "overrides": ["trainer.max_epoch=3"]}},
            "'trainer.max_epochs'",
        ),
        (
            {
                "kind": "train",
                "params": {"family": "person", "overrides": ["data.path=x", "model.depth=bse"]},
            },
            "base",
        ),
        ({"kind": "train", "params": {"family": "person", "overrides": ["data.path=../x"]}}, "data.path"),
        ({"kind": "train", "params": {"family": "person", "overrides": ["data.path=/etc"]}}, "'/etc'"),
        (
            {
                "kind": "train",
                "params": {"family": "defects", "overrides": ["data.path=x", "model.weights=/w.pth"]},
            },
            "model.weights: '/w.pth' leads out of the data root",
        ),
        (
            {
                "kind": "train",
                "params": {"family": "defects", "overrides": ["data.path=x", "data.split_file=../s.json"]},
            },
            "data.split_file: '../s.json' leads out of the data root",
        ),
        ({"kind": "train", "params": {}}, "params.family"),
        (
            {"kind": "train", "params": {"family": "person", "overrides": ["seed=" + "9" * 5000]}},
            "params.overrides.0: String should have at most 1000 characters (got 'seed=999",
        ),
        ({"kind": "export", "params": {"run_id": "../../x", "name": "person"}}, "params.run_id"),
        ({"kind": "export", "params": {"run_id": "r", "name": "p", "precision": "fp8"}}, "fp16"),
        ({"kind": "train", "params": {"family": "person"}, "group": "a b"}, "body.group"),
        ({"kind": "train", "params": {"family": "person"}, "priority": 1}, "body.priority"),
    ],
)
def test_what_cannot_be_run_is_refused_and_named(
    client: TestClient, body: dict[str, object], named: str
) -> None:
    response = client.post("/v1/jobs", json=body)
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert named in response.json()["detail"]
    assert client.get("/v1/jobs").json()["jobs"] == []


def test_a_data_set_behind_a_link_out_of_the_root_is_refused(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to("/etc")
    body = {"kind": "train", "params": {"family": "person", "overrides": ["data.path=link"]}}
    assert client.post("/v1/jobs", json=body).status_code == 422


def test_the_list_is_paged_and_narrowed(client: TestClient) -> None:
    ids = [
        client.post("/v1/jobs", json={"kind": "steps", "params": {"steps": n}, "group": f"g{n % 2}"}).json()[
            "id"
        ]
        for n in range(5)
    ]
    first = client.get("/v1/jobs", params={"limit": 3}).json()
    rest = client.get("/v1/jobs", params={"limit": 3, "cursor": first["next_cursor"]}).json()
    assert [job["id"] for job in first["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert {job["group"] for job in client.get("/v1/jobs?group=g1").json()["jobs"]} == {"g1"}
    assert client.get("/v1/jobs?state=running").json()["jobs"] == []
    assert client.get("/v1/jobs?state=runing").status_code == 422
    assert client.get("/v1/jobs?cursor=%25").status_code == 400
    assert client.get("/v1/jobs?kind=%00").status_code == 422
    assert client.get("/v1/jobs?group=%00").status_code == 422


def test_cancel_and_retry(client: TestClient) -> None:
    job_id = client.post("/v1/jobs", json={"kind": "steps"}).json()["id"]
    assert client.post(f"/v1/jobs/{job_id}/retry").status_code == 409
    assert client.post(f"/v1/jobs/{job_id}/cancel").json()["state"] == "cancelled"
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 202
    assert client.post(f"/v1/jobs/{job_id}/retry").json()["state"] == "queued"
    for action in ("cancel", "retry"):
        assert client.post(f"/v1/jobs/none/{action}").status_code == 404


def test_a_job_that_is_over_cannot_be_cancelled(client: TestClient, store: JobStore) -> None:
    job_id = client.post("/v1/jobs", json={"kind": "steps"}).json()["id"]
    claim = store.claim(job_id, "w", 30)
    assert claim is not None
    store.finish(claim, JobState.SUCCEEDED, result={})
    response = client.post(f"/v1/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (409, "succeeded")


def test_a_job_is_accepted_without_redis_and_announced_when_it_is_back(
    settings: CommonSettings, redis_server: RedisServer
) -> None:
    settings = settings.model_copy(update={"redis_url": redis_server.url})
    redis_server.stop()
    with TestClient(create_app(settings, queue=QueueSettings(reconcile_s=0.1, broker_timeout_s=1))) as client:
        assert client.post("/v1/jobs", json=TRAIN).status_code == 202
        assert client.get("/readyz").status_code == 200
        assert sample(client, "sightline_jobs_wake_ups_total", outcome="failed") == 1
        redis_server.start()
        deadline = time.monotonic() + 10
        while WakeUps(redis_server.url).waiting() == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert sample(client, "sightline_jobs_reconciled_total", reason="resent") == 1


def test_families_and_their_schemas_are_told(client: TestClient) -> None:
    families = client.get("/v1/families").json()["families"]
    person = next(family for family in families if family["name"] == "person")
    assert "recommended" in person["recipes"]
    schema = client.get(person["schema_url"]).json()
    assert schema["properties"]["grid_size"]["default"] == 26
    unknown = client.get("/v1/families/persn/schema")
    assert unknown.status_code == 404
    assert "'person'" in unknown.json()["detail"]


def test_a_form_can_be_made_of_the_schemas_of_a_family(client: TestClient) -> None:
    families = client.get("/v1/families").json()["families"]
    defects = next(family for family in families if family["name"] == "defects")
    assert defects["task"] == "classification"
    architecture = client.get(defects["schema_url"]).json()["properties"]["architecture"]
    assert architecture["enum"] == [choice["const"] for choice in architecture["oneOf"]]
    assert "convnext_tiny_cbam" in architecture["enum"]
    assert all(choice["description"] for choice in architecture["oneOf"])

    run = client.get(defects["run_schema_url"]).json()
    assert set(run["properties"]["recipe"]["enum"]) == set(defects["recipes"])
    assert run["$defs"]["DefectsConfig"]["properties"]["architecture"] == architecture
    unknown = client.get("/v1/families/defect/run-schema")
    assert unknown.status_code == 404
    assert "Did you mean 'defects'?" in unknown.json()["detail"]


def test_a_key_is_asked_for_where_one_is_set(settings: CommonSettings) -> None:
    settings = CommonSettings(**{**settings.model_dump(), "api_keys": "right"})
    with TestClient(create_app(settings)) as client:
        assert client.get("/v1/jobs").status_code == 401
        assert client.get("/v1/jobs", headers={"X-API-Key": "right"}).status_code == 200


def test_readiness_tells_that_the_database_is_gone(app: FastAPI, tmp_path: Path) -> None:
    with TestClient(app) as client:
        assert client.get("/readyz").status_code == 200
        for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        (tmp_path / "jobs.db").mkdir()
        app.state.jobs.store._engine.dispose()
        deadline = time.monotonic() + 10
        while client.get("/readyz").status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert client.get("/v1/jobs").status_code == 503
        assert client.get("/v1/jobs").headers["retry-after"] == "2"
        assert sample(client, "sightline_jobs", status="queued") is None
