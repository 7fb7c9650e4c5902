"""Following a job from outside: its events over HTTP, taken up again after every interruption."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import SSEError, connect_sse

_READ_TIMEOUT_S = 30.0  # a stream is never silent for longer than its heartbeat
_PATIENCE_S = 120.0  # how long the service may stay away
_MAX_PAUSE_S = 10.0
_WORTH_WAITING_FOR = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class WatchedEvent:
    """An event as it came; after `end`, whose data are the job, there is none."""

    seq: int
    type: str
    data: dict[str, Any]


def watch_job(
    client: httpx.Client,
    job_id: str,
    *,
    after_seq: int = 0,
    patience_s: float = _PATIENCE_S,
    interrupted: Callable[[str], None] = lambda reason: None,
) -> Iterator[WatchedEvent]:
    """Yield the events of a job after number `after_seq`, each once, up to `end`.

    A stream that breaks is taken up again; `interrupted` hears why it broke. Raises httpx.HTTPStatusError
    for an answer that will not change (no such job, no valid key), httpx.TransportError once the service
    has been away for `patience_s` seconds.
    """
    pause_s, last_heard = 0.5, time.monotonic()
    while True:
        try:
            for event in _stream(client, job_id, after_seq):
                yield event
                if event.type == "end":
                    return
                after_seq, pause_s, last_heard = event.seq, 0.5, time.monotonic()
            reason = "the stream ended"  # the service is stopping; another may be there already
        except (httpx.HTTPStatusError, httpx.TransportError, SSEError) as error:
            if (
                isinstance(error, httpx.HTTPStatusError)
                and error.response.status_code not in _WORTH_WAITING_FOR
            ):
                raise
            if time.monotonic() - last_heard > patience_s:
                raise
            reason = str(error) or type(error).__name__
        interrupted(reason)
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _MAX_PAUSE_S)


def _stream(client: httpx.Client, job_id: str, after_seq: int) -> Iterator[WatchedEvent]:
    timeout = httpx.Timeout(10.0, read=_READ_TIMEOUT_S)
    headers = {"Last-Event-ID": str(after_seq)}
    with connect_sse(client, "GET", f"/v1/jobs/{job_id}/events", headers=headers, timeout=timeout) as source:
        if source.response.is_error:
            source.response.read()
            source.response.raise_for_status()
        for event in source.iter_sse():
            if not event.data:  # a blank line that somebody on the way put in is no event
                continue
            yield WatchedEvent(int(event.id), event.event, event.json())
