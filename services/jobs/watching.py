"""The events of a job as a stream that can be left and taken up again (server-sent events)."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
import anyio.to_thread
import orjson
from prometheus_client import Gauge

from shared.core.logging import get_logger
from shared.core.problems import QueueFull
from shared.jobs.problems import DatabaseUnavailable
from shared.jobs.schema import Job, JobEvent
from shared.jobs.store import JobStore

logger = get_logger(__name__)

T = TypeVar("T")

_RECONNECT_AFTER_MS = 1000


class TooManyWatchers(QueueFull):
    code, title = "too_many_watchers", "Too many event streams"


@dataclass
class Watchers:
    """Streams over one store: at most `limit` at a time, each looking for news every `poll_s` seconds."""

    store: JobStore
    limit: int
    poll_s: float
    heartbeat_s: float
    gauge: Gauge
    _open: int = field(default=0, init=False)
    # Threads of their own: watchers must not take those that answer requests.
    _threads: anyio.CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._threads = anyio.CapacityLimiter(8)

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Hold one of the places. Raises TooManyWatchers where all are taken."""
        if self._open >= self.limit:
            raise TooManyWatchers(
                f"{self.limit} event streams are open, which is the limit; close one, or poll /v1/jobs/<id>",
                retry_after_s=5,
            )
        self._open += 1
        self.gauge.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            self.gauge.set(self._open)

    async def check(self, job_id: str) -> None:
        """Raise UnknownJob where there is nothing to watch, DatabaseUnavailable where nobody can tell."""
        await self._call(self.store.get, job_id)

    async def stream(
        self, job_id: str, after_seq: int, gone: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Yield frames: the events after `after_seq`, then new ones as they come, `end` when the job is over.

        Ends without `end` when `gone()` says that nobody listens or that the service stops, and when the
        database goes away; the client takes the stream up again by its last id.
        """
        # No blank line after this and after heartbeats: some clients take one for an event without data.
        yield f"retry: {_RECONNECT_AFTER_MS}\n".encode()
        silent_since = time.monotonic()
        try:
            while not await gone():
                job = await self._call(self.store.get, job_id)
                news = await self._news(job, after_seq)
                for event in news:
                    yield frame(event.seq, event.type, _event_data(event))
                    after_seq = event.seq
                    silent_since = time.monotonic()
                if job.state.is_final and after_seq >= job.last_event_id:
                    yield frame(job.last_event_id, "end", job.model_dump(mode="json"))
                    return
                if time.monotonic() - silent_since >= self.heartbeat_s:
                    yield b": heartbeat\n"
                    silent_since = time.monotonic()
                if not news:
                    await anyio.sleep(self.poll_s)
        except DatabaseUnavailable as error:
            logger.warning("event stream cut", job_id=job_id, error=error.detail)

    async def _news(self, job: Job, after_seq: int) -> list[JobEvent]:
        if job.last_event_id <= after_seq:
            return []
        return await self._call(self.store.events, job.id, after_seq)

    async def _call(self, function: Callable[..., T], *args: object) -> T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._threads)


def frame(seq: int, event: str, data: object) -> bytes:
    """Return one event in the format of the HTML standard (section Server-sent events)."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (seq, event.encode(), orjson.dumps(data))


def _event_data(event: JobEvent) -> dict[str, object]:
    return {**event.data, "at": event.created_at.isoformat()}
