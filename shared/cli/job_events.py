"""Following a job from a client: server-sent events that survive a broken connection."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import connect_sse

END = "end"


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event of a job; `type` is `end` for the last, whose data is the job itself."""

    seq: str
    type: str
    data: dict[str, Any]


def follow(
    client: httpx.Client, job_id: str, *, after: str = "0", lost_for_s: float = 60.0
) -> Iterator[JobEvent]:
    """Yield the events of a job until its end, taking up the thread again after a lost connection.

    Raises httpx.HTTPStatusError for a problem, and the last httpx.TransportError after `lost_for_s`
    seconds without a connection.
    """
    last_seen, lost_since = after, None
    timeout = httpx.Timeout(10.0, read=45.0)  # the service sends heartbeats more often than that
    while True:
        try:
            headers = {"Last-Event-ID": last_seen}
            with connect_sse(
                client, "GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout
            ) as source:
                if source.response.is_error:
                    source.response.read()
                    source.response.raise_for_status()
                for message in source.iter_sse():
                    lost_since = None
                    last_seen = message.id or last_seen
                    yield JobEvent(last_seen, message.event, json.loads(message.data or "{}"))
                    if message.event == END:
                        return
        except httpx.TransportError:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > lost_for_s:
                raise
        time.sleep(0.5)
