"""Sequences: requests that name a correlation ID, each one window later than the one before.

Triton's sequence extension
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_sequence.md) over the
streams of the data plane, with Triton's words for what is refused.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from services.detector.dataplane.problems import QueueDeadlineExceeded
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.streams.stream import Stream, StreamOptions
from services.detector.dataplane.streams.table import StreamTable
from services.detector.oip.graph_inputs import check_outputs, outputs_of_a_sequence, window_input
from services.detector.oip.inference import Inference
from services.detector.oip.problems import WrongRequest
from services.detector.oip.request import InferRequest
from shared.repository.manifest import Manifest

_Key = tuple[str, int | str]  # of a model and its sequence; 7 and "7" are two sequences


@dataclass(eq=False, slots=True)
class _Sequence:
    """`turn` lets requests in one by one, in the order of their arrival; `users` have it or wait for it."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    stream: Stream | None = None
    users: int = 0

    @property
    def is_running(self) -> bool:
        return self.stream is not None and self.stream.ended is None


class Sequences:
    """Which stream each sequence is; used from the event loop only."""

    def __init__(self, streams: StreamTable) -> None:
        self._streams = streams
        self._sequences: dict[_Key, _Sequence] = {}

    def __len__(self) -> int:
        return len(self._sequences)

    async def infer(
        self, loaded: LoadedVersion, version: str | None, request: InferRequest, *, wait_s: float
    ) -> tuple[LoadedVersion, Inference]:
        """Advance the sequence that `request` names by its window; return its version and the outputs.

        loaded: what model and `version`, as asked for, mean now. A new sequence begins on what they mean when
        its turn comes, and one that runs stays where it began. wait_s bounds the wait for earlier requests of
        the same sequence. Raises WrongRequest, QueueDeadlineExceeded, and what StreamTable.open and
        Stream.step raise; the sequence is then as before, and one that would have begun has not.
        """
        place, model = request.sequence, loaded.name
        if place.id is None:
            raise WrongRequest(
                f"inference request to model '{model}' must specify a non-zero or non-empty correlation ID"
            )
        if (timeout_s := request.schedule.timeout_s) is not None:
            wait_s = min(wait_s, timeout_s)
        async with self._turn((model, place.id), wait_s) as own:
            if place.start:
                window = _window(request, loaded.manifest)
                stream = self._begin(own, model, version)
            else:
                stream = _running(own, request, model, version, loaded.version)
                window = _window(request, stream.loaded.manifest)
            try:
                outputs, timing = await stream.step(window)
            except BaseException:
                if place.start:
                    self._end(own)
                raise
            if place.end:
                self._end(own)
            return stream.loaded, Inference(outputs, timing)

    @contextlib.asynccontextmanager
    async def _turn(self, key: _Key, wait_s: float) -> AsyncIterator[_Sequence]:
        own = self._sequences.get(key)
        if own is None:
            self._forget_ended()
            own = self._sequences[key] = _Sequence()
        own.users += 1
        try:
            try:
                async with asyncio.timeout(wait_s):
                    await own.turn.acquire()
            except TimeoutError as error:
                raise QueueDeadlineExceeded(
                    f"earlier requests of sequence {key[1]} were not done within {wait_s:g} s; send the "
                    "next window when the last one is answered"
                ) from error
            try:
                yield own
            finally:
                own.turn.release()
        finally:
            own.users -= 1
            if not own.users and not own.is_running:
                del self._sequences[key]

    def _forget_ended(self) -> None:
        """Let go of sequences whose streams were ended elsewhere, such as for being idle."""
        if len(self._sequences) >= 2 * self._streams.limits.streams:
            kept = {key: one for key, one in self._sequences.items() if one.users or one.is_running}
            self._sequences = kept

    def _begin(self, own: _Sequence, model: str, version: str | None) -> Stream:
        """Open a stream, in place of the one that runs, whose room it may need.

        Another version may have gone live while the request waited for its turn; the stream is then on that.
        """
        self._end(own)
        own.stream = self._streams.open(model, version, StreamOptions())
        return own.stream

    def _end(self, own: _Sequence) -> None:
        stream, own.stream = own.stream, None
        if stream is not None and stream.ended is None:
            self._streams.end(stream.id, "client")


def _running(own: _Sequence, request: InferRequest, model: str, version: str | None, number: int) -> Stream:
    """Return the sequence's stream; raises WrongRequest where it has none, or has it on another version."""
    stream = own.stream
    if stream is None or stream.ended is not None:
        raise WrongRequest(
            f"inference request for sequence {request.sequence.id} to model '{model}' must specify the START "
            "flag on the first request of the sequence"
        )
    if version is not None and version.isdecimal() and stream.loaded.version != number:
        raise WrongRequest(
            f"sequence {request.sequence.id} runs on version {stream.loaded.version} of model '{model}' and "
            f"this asks for version {number}; a sequence stays on its version, so begin it anew"
        )
    return stream


def _window(request: InferRequest, manifest: Manifest) -> NDArray[Any]:
    check_outputs(request, [spec.name for spec in outputs_of_a_sequence(manifest)], manifest.name)
    return window_input(request, manifest)
