"""Event streams over a real socket: order, replay, end, heartbeats, bounds, and clients that go."""

import json
import threading
import time

import httpx
import pytest
from httpx_sse import ServerSentEvent, connect_sse

from shared.jobs.client import watch_job
from shared.jobs.schema import JobState
from shared.jobs.store import Claim, JobStore, PendingEvent
from tests.services.jobs.conftest import RunningService

pytestmark = pytest.mark.redis


@pytest.fixture
def claim(service: RunningService, store: JobStore) -> Claim:
    job, _ = store.submit("steps", {})
    claim = store.claim(job.id, "w", 60)
    assert claim is not None
    return claim


def read(service: RunningService, job_id: str, last_event_id: int = 0) -> list[ServerSentEvent]:
    headers = {"Last-Event-ID": str(last_event_id)} if last_event_id else {}
    with (
        httpx.Client(base_url=service.url, timeout=20) as client,
        connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=headers) as source,
    ):
        return list(source.iter_sse())


def test_a_stream_replays_follows_and_ends(service: RunningService, store: JobStore, claim: Claim) -> None:
    store.append_event(claim, "epoch", {"epoch": 1, "loss": 2.5})

    def go_on() -> None:
        time.sleep(0.3)
        store.append_event(claim, "epoch", {"epoch": 2, "loss": 1.5})
        store.finish(claim, JobState.SUCCEEDED, result={"ap50": 0.9})

    thread = threading.Thread(target=go_on)
    thread.start()
    events = read(service, claim.job.id)
    thread.join()
    assert [(event.id, event.event) for event in events] == [
        ("1", "state"),
        ("2", "state"),
        ("3", "epoch"),
        ("4", "epoch"),
        ("5", "state"),
        ("5", "end"),
    ]
    assert [json.loads(event.data)["loss"] for event in events if event.event == "epoch"] == [2.5, 1.5]
    end = json.loads(events[-1].data)
    assert (end["state"], end["result"]) == ("succeeded", {"ap50": 0.9})


def test_a_stream_goes_on_after_the_last_event_id(
    service: RunningService, store: JobStore, claim: Claim
) -> None:
    for epoch in range(5):
        store.append_event(claim, "epoch", {"epoch": epoch})
    store.finish(claim, JobState.FAILED, error={"type": "E", "message": "m"})
    assert [event.id for event in read(service, claim.job.id, last_event_id=5)] == ["6", "7", "8", "8"]
    assert [event.event for event in read(service, claim.job.id, last_event_id=8)] == ["end"]


def test_a_long_history_comes_whole(service: RunningService, store: JobStore, claim: Claim) -> None:
    for epoch in range(60):
        store.append_events(claim, [*[_event("step")] * 19, _event("epoch", epoch=epoch)])
    store.finish(claim, JobState.SUCCEEDED)
    events = read(service, claim.job.id)
    assert [int(event.id) for event in events[:-1]] == list(range(1, 2 + 60 * 20 + 2))


def _event(type_: str, **data: object) -> PendingEvent:
    return PendingEvent(type_, data, 0.0)


def test_a_silent_stream_sends_heartbeats(service: RunningService, claim: Claim) -> None:
    seen = ""
    with httpx.stream("GET", f"{service.url}/v1/jobs/{claim.job.id}/events", timeout=5) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        for text in response.iter_text():
            seen += text
            if seen.count(": heartbeat\n") == 2:
                break


def test_watchers_are_bounded_and_their_places_come_back(
    service: RunningService, claim: Claim, store: JobStore
) -> None:
    url = f"{service.url}/v1/jobs/{claim.job.id}/events"
    with httpx.stream("GET", url), httpx.stream("GET", url):  # the limit in these tests is 2
        refused = httpx.get(url)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["type"] == "urn:sightline:problem:too_many_watchers"
    deadline = time.monotonic() + 10
    while "sightline_jobs_watchers 0.0" not in httpx.get(f"{service.url}/metrics").text:
        assert time.monotonic() < deadline, "clients that went still hold their places"
        time.sleep(0.05)
    store.finish(claim, JobState.SUCCEEDED)
    assert read(service, claim.job.id)[-1].event == "end"


def test_an_unknown_job_cannot_be_watched(service: RunningService) -> None:
    for _ in range(5):  # more often than there are places
        assert httpx.get(f"{service.url}/v1/jobs/none/events").status_code == 404


@pytest.mark.parametrize("given", ["x", "-1"])
def test_a_last_event_id_that_is_no_number_is_refused(
    service: RunningService, claim: Claim, given: str
) -> None:
    response = httpx.get(f"{service.url}/v1/jobs/{claim.job.id}/events", headers={"Last-Event-ID": given})
    assert response.status_code == 422


def test_a_watching_client_takes_the_stream_up_again(
    service: RunningService, store: JobStore, claim: Claim
) -> None:
    interruptions: list[str] = []
    seen: list[int] = []

    def interrupt_and_go_on() -> None:
        time.sleep(0.3)
        service.stop()
        store.append_event(claim, "epoch", {"epoch": 1})
        service.start()
        store.append_event(claim, "epoch", {"epoch": 2})
        store.finish(claim, JobState.SUCCEEDED)

    thread = threading.Thread(target=interrupt_and_go_on)
    thread.start()
    with httpx.Client(base_url=service.url) as client:
        for event in watch_job(client, claim.job.id, interrupted=interruptions.append):
            seen.append(event.seq)
    thread.join()
    assert seen == [1, 2, 3, 4, 5, 5]  # each once, then `end`
    assert interruptions


def test_a_watching_client_gives_up_on_a_job_that_does_not_exist(service: RunningService) -> None:
    with httpx.Client(base_url=service.url) as client, pytest.raises(httpx.HTTPStatusError):
        list(watch_job(client, "none"))


def test_a_watching_client_gives_up_on_a_service_that_stays_away() -> None:
    with httpx.Client(base_url="http://127.0.0.1:9") as client, pytest.raises(httpx.ConnectError):
        list(watch_job(client, "any", patience_s=0.2))
