"""One open stream: chunks in, detections of each complete window out, all of a chunk or nothing of it.

Used from the event loop only; what computes goes to threads and touches nothing here.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal, TypeVar

from numpy.typing import NDArray

from services.detector.dataplane.inference import infer
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.streams.answers import ChunkAnswer, WindowAnswer, total
from services.detector.dataplane.streams.formats import EVENT_RECORD
from services.detector.dataplane.streams.problems import SequenceConflict, StreamGone
from services.detector.dataplane.streams.standing import Chunk, Standing
from services.detector.dataplane.streams.windows import EventWindows, WindowLimits
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from services.detector.dataplane.work import Timing, Work
from shared.core.problems import Problem

R = TypeVar("R")

EndReason = Literal["client", "idle", "unloaded", "shutdown"]
_WHY = {
    "client": "its client closed it",
    "idle": "nothing came for longer than SIGHTLINE_DETECTOR_STREAM_IDLE_S",
    "unloaded": "its model was unloaded",
    "shutdown": "the server is stopping",
}
_INLINE_BYTES = 1 << 16  # below it, handing work to a thread costs more than doing it


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What a client asks for when it opens a stream.

    start_us: where the first window begins; None: at the first event. sensor: (height, width) of its camera.
    """

    start_us: int | None = None
    sensor: tuple[int, int] | None = None
    overrides: Overrides = field(default_factory=Overrides)


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What streams may take up, and how long a window may wait and be computed, in seconds."""

    streams: int
    idle_s: float
    window: WindowLimits
    wait_s: float
    compute_timeout_s: float


@dataclass(eq=False, slots=True)
class _Running:
    """What is being computed, and how many wait for it; nobody: it is given up."""

    task: "asyncio.Task[Any]"
    key: tuple[int, bytes] | None  # sequence and digest of a chunk; None for a step
    waiting: int = 0


class Stream:
    """A stream on one version, which it holds until it ends; made and ended by the table."""

    def __init__(
        self,
        number: str,
        loaded: LoadedVersion,
        task: StreamDetectionTask,
        options: StreamOptions,
        limits: StreamLimits,
        *,
        held: ExitStack,
        pool: Executor | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.id = number
        self.loaded = loaded
        self.task = task
        self.options = options
        self.opened_at = datetime.now(UTC)
        self.next_sequence = 0
        self.ended: EndReason | None = None
        self._gone = asyncio.Event()
        self._limits = limits
        self._held = held
        self._pool = pool
        self._clock = clock
        self._used_at = clock()
        windows = EventWindows(task.window_us, limits.window, start_us=options.start_us)
        self._standing = Standing(windows, task.zero_states())
        self._running: _Running | None = None
        self._answered: tuple[bytes, ChunkAnswer] | None = None  # digest and answer of the last chunk

    @property
    def start_us(self) -> int | None:
        """Where the first window begins, in microseconds; None until an event says so."""
        return self._standing.windows.start_us

    @property
    def windows(self) -> int:
        """How many windows have been answered."""
        return self._standing.windows.completed

    @property
    def pending_events(self) -> int:
        """How many events wait for their window to be complete."""
        return len(self._standing.windows.pending)

    @property
    def idle_s(self) -> float:
        """Seconds since something was last asked of it; 0 while something is being computed."""
        return 0.0 if self._running is not None else self._clock() - self._used_at

    async def send(self, sequence: int, chunk: Chunk) -> ChunkAnswer:
        """Take one chunk and return the answers for the windows it completes.

        The first chunk has the sequence number 0. The same chunk sent again is not taken twice: it gets the
        answer that the first one got or is about to get. Whatever is raised, and also when this is
        cancelled, the stream is as before, and the same number may be sent again. Raises StreamGone,
        SequenceConflict, what Standing.cut raises, and what infer raises or answers with.
        """
        key = sequence, await self._in_pool(len(chunk.body), _digest, chunk)
        while (running := self._running) is not None:
            self.refuse_if_ended()
            if running.waiting == 0:  # given up by whoever sent it, and not yet at its end
                await asyncio.wait([running.task])
                continue
            if running.key != key:
                raise self._conflict(sequence, "another chunk of this stream is being answered")
            return await self._result(running)
        self.refuse_if_ended()
        self._used_at = self._clock()
        if self._answered is not None and sequence == self.next_sequence - 1:
            digest, answer = self._answered
            if digest != key[1]:
                raise self._conflict(sequence, f"chunk {sequence} was another one and has been answered")
            return answer
        if sequence != self.next_sequence:
            raise self._conflict(sequence, f"chunk {sequence} is out of turn")
        return await self._run(partial(self._answer, key, chunk), key)

    async def step(self, histogram: NDArray[Any]) -> tuple[Tensors, Timing]:
        """Advance by one window [1, C, H, W], as the graph takes it; return raw outputs [1, …] and timing.

        The outputs that are states stay here. Raises StreamGone, SequenceConflict where something else is
        being computed, UnknownChunkType for a stream of events, WrongChunk for another shape or type, and
        what infer raises or answers with; the stream is then as before.
        """
        self.refuse_if_ended()
        if self._running is not None:
            raise self._conflict(self.next_sequence, "another window of this stream is being computed")
        standing = self._standing.step(histogram, self.task)
        return await self._run(partial(self._step, standing, histogram[0]), None)

    async def wait_ended(self) -> None:
        """Return once the stream has ended, whoever ended it."""
        await self._gone.wait()

    def refuse_if_ended(self) -> None:
        """Raise StreamGone once the stream has ended."""
        if self.ended is not None:
            raise stream_gone(self.id, self.ended)

    def end(self, reason: EndReason) -> None:
        """Refuse everything from now on, give up what is being computed, and let go of the version."""
        if self.ended is not None:
            return
        self.ended = reason
        self._gone.set()
        self._answered = None
        self._standing = self._standing.with_states({})
        running = self._running
        if running is None:
            self._held.close()
        else:
            running.task.cancel()
            running.task.add_done_callback(lambda _: self._held.close())

    # What is computed, one thing at a time

    async def _run(self, work: Callable[[], Coroutine[Any, Any, R]], key: tuple[int, bytes] | None) -> R:
        running = _Running(asyncio.create_task(self._or_gone(work)), key)
        self._running = running
        running.task.add_done_callback(self._done)
        result: R = await self._result(running)
        return result

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._running = None
        self._used_at = self._clock()
        if not task.cancelled():
            task.exception()  # looked at, should nobody wait any more

    async def _or_gone(self, work: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Return what `work` returns; StreamGone where the end of the stream cut it short."""
        try:
            return await work()
        except asyncio.CancelledError:
            self.refuse_if_ended()
            raise

    async def _result(self, running: _Running) -> Any:
        """Wait with all others who wait for it; when the last one goes, it is given up."""
        running.waiting += 1
        try:
            return await asyncio.shield(running.task)
        except asyncio.CancelledError:
            if running.task.cancelled():  # ended before it had begun
                self.refuse_if_ended()
            raise
        finally:
            running.waiting -= 1
            if running.waiting == 0:
                running.task.cancel()  # does nothing to one that is done

    async def _answer(self, key: tuple[int, bytes], chunk: Chunk) -> ChunkAnswer:
        sequence, digest = key
        size_bytes = len(chunk.body) + self.pending_events * EVENT_RECORD.itemsize
        standing, due = await self._in_pool(size_bytes, self._standing.cut, chunk, self.task)
        answers: list[WindowAnswer] = []
        timings: list[Timing] = []
        for window in due:
            work = self.task.work(window.content, standing.states, self.options.overrides)
            result, timing = await self._infer(work)
            standing = standing.with_states(result.states)
            answers.append(WindowAnswer(window.index, window.start_us, window.end_us, result.detections))
            timings.append(timing)
        answer = ChunkAnswer(sequence, tuple(answers), total(timings))
        # From here to the end nothing is awaited: all of the chunk is taken, or nothing was.
        self._standing = standing
        self._answered = digest, answer
        self.next_sequence = sequence + 1
        self.loaded.metrics.windows(len(answers))
        return answer

    async def _step(self, standing: Standing, histogram: NDArray[Any]) -> tuple[Tensors, Timing]:
        result, timing = await self._infer(self.task.raw_work(histogram, standing.states))
        self._standing = standing.with_states(result.states)
        self.loaded.metrics.windows(1)
        return result.outputs, timing

    async def _infer(self, work: Work[R]) -> tuple[R, Timing]:
        limits = self._limits
        # How long the queue is was weighed at the door: refused here, the windows before would be lost too.
        (outcome,) = await infer(
            self.loaded,
            [work],
            wait_s=limits.wait_s,
            compute_timeout_s=limits.compute_timeout_s,
            foresee=False,
        )
        if isinstance(outcome, Problem):
            raise outcome
        return outcome

    async def _in_pool(self, size_bytes: int, function: Callable[..., R], *arguments: Any) -> R:
        if size_bytes < _INLINE_BYTES:
            return function(*arguments)
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    def _conflict(self, sequence: int, why: str) -> SequenceConflict:
        expected = self.next_sequence
        return SequenceConflict(
            f"{why}; stream {self.id} expects chunk {expected}, this is {sequence}", expected=expected
        )


def stream_gone(number: str, reason: EndReason) -> StreamGone:
    """Return the problem of whoever asks for a stream that has ended."""
    return StreamGone(
        f"stream {number} has ended: {_WHY[reason]}; open a new one, it begins without memory", reason=reason
    )


def _digest(chunk: Chunk) -> bytes:
    digest = hashlib.blake2b(chunk.body, digest_size=16)
    digest.update(f"{chunk.media_type} {chunk.until_us}".encode())
    return digest.digest()
