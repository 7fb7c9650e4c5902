"""All open streams of a server: opened, found, listed and ended here.

Used from the event loop only, but for `end_model_soon`.
"""

import asyncio
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import ExitStack

from services.detector.dataplane.problems import Draining
from services.detector.dataplane.registry import ModelRegistry
from services.detector.dataplane.streams.problems import (
    StreamGone,
    TooManyStreams,
    UnknownStream,
    WrongSensor,
)
from services.detector.dataplane.streams.stream import (
    EndReason,
    Stream,
    StreamLimits,
    StreamOptions,
    stream_gone,
)
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from services.detector.dataplane.tasks.task import expect
from services.detector.metrics import DetectorMetrics
from shared.core.logging import get_logger

logger = get_logger(__name__)

_REMEMBERED = 1024  # streams that ended, so that whoever still sends is told why
_ID = re.compile(r"[0-9a-f]{32}")


class StreamTable:
    """Open streams by id; `start` it once on the loop that serves, `close` it once."""

    def __init__(
        self,
        registry: ModelRegistry,
        limits: StreamLimits,
        metrics: DetectorMetrics,
        pool: Executor | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._registry = registry
        self._metrics = metrics
        self._pool = pool
        self._clock = clock
        self._open: dict[str, Stream] = {}
        self._ended: OrderedDict[str, EndReason] = OrderedDict()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._expiring: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Begin to end streams that are idle; called on the running loop."""
        self._loop = asyncio.get_running_loop()
        self._expiring = self._loop.create_task(self._expire_always())

    def close(self) -> None:
        """End every stream and open none any more."""
        self._closed = True
        if self._expiring is not None:
            self._expiring.cancel()
        for stream in list(self._open.values()):
            self._end(stream, "shutdown")

    def open(self, model: str, version: str | None, options: StreamOptions) -> Stream:
        """Open a stream on a loaded version, which it holds until it ends.

        Raises what ModelRegistry.lease raises, WrongTask, WrongSensor, FixedSuppression, TooManyStreams or
        Draining.
        """
        if self._closed:
            raise Draining("the server is stopping; open the stream on another one")
        with ExitStack() as held:
            loaded = held.enter_context(self._registry.lease(model, version))
            task = expect(loaded.task, StreamDetectionTask, loaded.name)
            self._check(task, options, loaded.name)
            self.expire()
            if len(self._open) >= self.limits.streams:
                raise TooManyStreams(
                    f"{len(self._open)} streams are open, which is the limit "
                    "(SIGHTLINE_DETECTOR_MAX_STREAMS); close one, or try again after Retry-After",
                    retry_after_s=min(self.limits.idle_s - one.idle_s for one in self._open.values()),
                )
            stream = Stream(
                secrets.token_hex(16),
                loaded,
                task,
                options,
                self.limits,
                held=held.pop_all(),
                pool=self._pool,
                clock=self._clock,
            )
        self._open[stream.id] = stream
        self._metrics.stream_opened(loaded.name, loaded.version)
        return stream

    def get(self, number: str) -> Stream:
        """Return an open stream. Raises StreamGone, or UnknownStream for what is no id of a stream."""
        stream = self._open.get(number)
        if stream is not None:
            return stream
        if not _ID.fullmatch(number):
            raise UnknownStream(f"{number[:80]!r} is no id of a stream; POST /v1/models/…/streams gives one")
        reason = self._ended.get(number)
        if reason is not None:
            raise stream_gone(number, reason)
        raise StreamGone(
            f"this server does not have stream {number}: it ended a while ago, or the server has started "
            "anew since; open a new one, it begins without memory",
            reason="forgotten",
        )

    def streams(self) -> list[Stream]:
        """Return the open streams, the oldest first."""
        return list(self._open.values())

    def end(self, number: str, reason: EndReason) -> None:
        """End a stream; raises as `get`."""
        self._end(self.get(number), reason)

    def expire(self) -> None:
        """End the streams that nothing was asked of for too long."""
        for stream in list(self._open.values()):
            if stream.idle_s >= self.limits.idle_s:
                self._end(stream, "idle")

    def end_model(self, model: str) -> None:
        """End the streams of every version of a model, which is being unloaded."""
        for stream in list(self._open.values()):
            if stream.loaded.name == model:
                self._end(stream, "unloaded")

    def end_model_soon(self, model: str) -> None:
        """As `end_model`, from any thread; returns before it has happened."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.end_model, model)

    def _end(self, stream: Stream, reason: EndReason) -> None:
        del self._open[stream.id]
        self._ended[stream.id] = reason
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        # Before it lets go of its version, whose metrics may go with it.
        self._metrics.stream_ended(stream.loaded.name, stream.loaded.version, reason)
        stream.end(reason)
        logger.info(
            "stream ended",
            stream=stream.id,
            model=stream.loaded.name,
            version=stream.loaded.version,
            reason=reason,
            windows=stream.windows,
        )

    async def _expire_always(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self.limits.idle_s / 4))
            self.expire()

    def _check(self, task: StreamDetectionTask, options: StreamOptions, model: str) -> None:
        task.check(options.overrides)
        if options.sensor is not None and options.sensor != task.sensor_size:
            (height, width), (own_height, own_width) = options.sensor, task.sensor_size
            raise WrongSensor(
                f"{model} is for a sensor of {own_width} x {own_height} pixels (width x height), not "
                f"{width} x {height}; use a model for your sensor"
            )
