"""`sightline jobs` against a running service."""

import json
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import Result
from structlog.testing import capture_logs
from typer.testing import CliRunner

from services.jobs.cli import app as cli
from shared.jobs.schema import JobState
from shared.jobs.store import JobStore
from tests.services.jobs.conftest import RunningService

pytestmark = pytest.mark.redis

Run = Callable[..., Result]


@pytest.fixture
def run(service: RunningService, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    monkeypatch.setenv("SIGHTLINE_JOBS_URL", service.url)
    with capture_logs():  # the service's, which runs in this process
        yield lambda *words: CliRunner().invoke(cli, list(words))


def submit(run: Run, *words: str) -> str:
    result = run("submit", "steps", *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout.strip()


def end_soon(store: JobStore, job_id: str, state: JobState) -> threading.Thread:
    def end() -> None:
        time.sleep(0.2)
        claim = store.claim(job_id, "w", 30)
        assert claim is not None
        store.append_event(claim, "epoch", {"epoch": 1, "max_epochs": 2, "loss": 0.5})
        store.finish(claim, state, result={"ap50": 0.9}, error={"type": "E", "message": "it broke"})

    thread = threading.Thread(target=end)
    thread.start()
    return thread


def test_submit_prints_the_id_alone_on_stdout(run: Run, store: JobStore) -> None:
    assert store.get(submit(run, "steps=3")).params == {"steps": 3}


def test_train_words_become_family_recipe_and_overrides(run: Run) -> None:
    result = run(
        "submit",
        "train",
        "family=person",
        "recipe=reference",
        "data.path=cctv",
        "trainer.max_epochs=2",
        "--json",
    )
    assert json.loads(result.stdout)["params"] == {
        "family": "person",
        "recipe": "reference",
        "overrides": ["data.path=cctv", "trainer.max_epochs=2"],
    }


def test_one_idempotency_key_makes_one_job(run: Run) -> None:
    assert submit(run, "--idempotency-key", "k") == submit(run, "--idempotency-key", "k")


@pytest.mark.parametrize(
    ("state", "exit_code"), [(JobState.SUCCEEDED, 0), (JobState.FAILED, 1), (JobState.CANCELLED, 6)]
)
def test_watch_exits_by_how_the_job_ended(run: Run, store: JobStore, state: JobState, exit_code: int) -> None:
    job_id = submit(run)
    thread = end_soon(store, job_id, state)
    result = run("watch", "last", "--json")
    thread.join()
    assert result.exit_code == exit_code
    job = json.loads(result.stdout)
    assert (job["id"], job["state"]) == (job_id, state)
    assert ("it broke" in result.stderr) == (state is JobState.FAILED)


def test_list_shows_and_narrows(run: Run) -> None:
    kept, other = submit(run, "--group", "g"), submit(run)
    assert {job["id"] for job in json.loads(run("list", "--json").stdout)["jobs"]} == {kept, other}
    narrowed = run("list", "--group", "g")
    assert kept in narrowed.stdout
    assert other not in narrowed.stdout


def test_cancel_and_retry(run: Run) -> None:
    job_id = submit(run)
    assert "cancelled" in run("cancel", job_id).stdout
    assert json.loads(run("retry", job_id, "--json").stdout)["state"] == "queued"
    assert json.loads(run("show", job_id, "--json").stdout)["state"] == "queued"


def test_logs_print_what_happened_so_far_and_return(run: Run) -> None:
    job_id = submit(run)
    assert [event["reason"] for event in json.loads(run("logs", job_id, "--json").stdout)] == ["submitted"]
    assert "reason submitted" in run("logs", job_id).stdout


def test_errors_are_explained_and_have_exit_codes(run: Run, service: RunningService) -> None:
    unknown = run("show", "none")
    assert (unknown.exit_code, unknown.stdout) == (3, "")
    assert "there is no job 'none'" in unknown.stderr
    assert run("watch", "none").exit_code == 3
    assert run("logs", "none").exit_code == 3
    wrong = run("submit", "train", "family=persn")
    assert wrong.exit_code == 2
    assert "'person'" in wrong.stderr
    assert run("submit", "train", "person").exit_code == 2
    service.stop()
    away = run("list")
    assert away.exit_code == 4
    assert "sightline up" in away.stderr
