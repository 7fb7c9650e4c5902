"""Streams over WebSockets: one socket is one stream, and each of its messages gets one answer, in order."""

import asyncio
import contextlib
import time
from typing import Any

import orjson
from fastapi import APIRouter, WebSocket
from starlette.types import Message

from services.detector.dataplane.problems import Draining
from services.detector.dataplane.streams.answers import ChunkAnswer
from services.detector.dataplane.streams.problems import StreamGone
from services.detector.dataplane.streams.standing import Chunk
from services.detector.dataplane.streams.stream import Stream
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from services.detector.dataplane.tasks.task import expect
from services.detector.read_ahead import ReadAhead
from services.detector.routes.socket_messages import (
    MEDIA_TYPES,
    SocketFields,
    chunk_of,
    fields_of_message,
    fields_of_query,
)
from services.detector.routes.streams import describe_answer, describe_stream, stream_options
from services.detector.state import detector_of
from shared.core.http import problem_document
from shared.core.problems import Problem, QueueFull
from shared.core.shell import BodyTimeout, ClientGone

# Close codes of RFC 6455 section 7.4.1 and of the registry it began at IANA.
_NORMAL, _POLICY_VIOLATION, _INTERNAL_ERROR = 1000, 1008, 1011
_SERVICE_RESTART, _TRY_AGAIN_LATER = 1012, 1013
_CODES = {
    429: _TRY_AGAIN_LATER,
    500: _INTERNAL_ERROR,
    503: _TRY_AGAIN_LATER,
    504: _TRY_AGAIN_LATER,
}
_FULL_QUEUE_WAIT_S = 0.1
_LAST_WORDS_S = 5.0

router = APIRouter(prefix="/v1/models/{model}")


@router.websocket("/stream")
async def stream_socket(model: str, socket: WebSocket) -> None:
    await _Conversation(socket, model, None).hold()


@router.websocket("/versions/{version}/stream")
async def stream_socket_with_version(model: str, version: str, socket: WebSocket) -> None:
    await _Conversation(socket, model, version).hold()


class _Conversation:
    """One WebSocket from its handshake to its end."""

    def __init__(self, socket: WebSocket, model: str, version: str | None) -> None:
        self._socket = socket
        self._model = model
        self._version = version
        self._detector = detector_of(socket)
        self._messages = ReadAhead(socket)
        self._stream: Stream | None = None
        self._media_type = ""

    async def hold(self) -> None:
        """Open the stream, answer every message, end the stream; problems before the handshake are raised."""
        try:
            if self._socket.query_params:
                self._open(fields_of_query(self._socket.query_params))
            else:
                self._refuse_other_models()
            await self._socket.accept()
            reading = asyncio.create_task(self._messages.read())
            try:
                await self._talk_to_the_end(reading)
            except ClientGone:
                pass
            except Problem as problem:
                await self._close(problem)
            finally:
                reading.cancel()
        finally:
            if self._stream is not None and self._stream.ended is None:
                self._detector.streams.end(self._stream.id, "client")

    async def _talk_to_the_end(self, reading: "asyncio.Task[None]") -> None:
        """Answer messages until one says close; raises ClientGone or what ends the stream before that."""
        stream = self._stream or await self._open_by_message()
        talking = asyncio.create_task(self._talk(stream))
        ended = asyncio.create_task(stream.wait_ended())
        try:
            await asyncio.wait({talking, reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if self._messages.code == _SERVICE_RESTART:
                # What has arrived is still answered.
                await asyncio.wait({talking, ended}, return_when=asyncio.FIRST_COMPLETED)
            if talking.done():
                await talking
            elif ended.done():
                stream.refuse_if_ended()
            else:
                raise ClientGone
        finally:
            for task in (talking, ended):
                task.cancel()
            await asyncio.gather(talking, ended, return_exceptions=True)

    async def _talk(self, stream: Stream) -> None:
        await self._send(describe_stream(stream, self._detector.streams.limits.idle_s))
        while (message := await self._messages.next()) is not None:
            sequence = stream.next_sequence
            try:
                chunk = chunk_of(message, self._media_type)
                if chunk is None:
                    await self._say_goodbye(stream)
                    return
                answer = await self._answer(stream, chunk)
            except Problem as problem:
                if _ends_the_stream(problem):
                    raise
                await self._send({"sequence": sequence, "problem": self._document(problem)})
            else:
                await self._send(describe_answer(stream, answer))
        raise self._why_no_more()

    def _why_no_more(self) -> Exception:
        if self._messages.code == _SERVICE_RESTART:
            return Draining("the server is stopping; open a new stream on another one")
        return ClientGone()

    async def _answer(self, stream: Stream, chunk: Chunk) -> ChunkAnswer:
        """Return the answer to a chunk. Where a queue is full the client waits: it cannot skip a chunk."""
        give_up_at = time.monotonic() + self._detector.settings.deadline_s
        while True:
            try:
                with self._detector.body_budget.hold_bytes(len(chunk.body)):
                    return await stream.send(stream.next_sequence, chunk)
            except QueueFull:
                if time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(_FULL_QUEUE_WAIT_S)

    async def _open_by_message(self) -> Stream:
        wait_s = self._detector.settings.body_timeout_s
        try:
            async with asyncio.timeout(wait_s):
                message: Message | None = await self._messages.next()
        except TimeoutError as error:
            raise BodyTimeout(
                f"no message came within {wait_s:g} s; the first one opens the stream"
            ) from error
        if message is None:
            raise self._why_no_more()
        return self._open(fields_of_message(message))

    def _open(self, fields: SocketFields) -> Stream:
        self._media_type = MEDIA_TYPES[fields.format]
        self._stream = self._detector.streams.open(self._model, self._version, stream_options(fields))
        return self._stream

    def _refuse_other_models(self) -> None:
        """Raise what is wrong with the model while that can still be said with a status."""
        with self._detector.registry.lease(self._model, self._version) as loaded:
            expect(loaded.task, StreamDetectionTask, loaded.name)

    async def _say_goodbye(self, stream: Stream) -> None:
        await self._send(
            {
                "closed": True,
                "stream": stream.id,
                "windows": stream.windows,
                "pending_events": stream.pending_events,
            }
        )
        await self._socket.close(_NORMAL)

    async def _close(self, problem: Problem) -> None:
        with contextlib.suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._send({"problem": self._document(problem)})
                await self._socket.close(_close_code(problem), problem.title)

    async def _send(self, document: dict[str, Any]) -> None:
        await self._socket.send_text(orjson.dumps(document).decode())

    def _document(self, problem: Problem) -> dict[str, Any]:
        return problem_document(self._socket.scope["path"], self._socket.state.request_id, problem)


def _ends_the_stream(problem: Problem) -> bool:
    """Return whether what a chunk brought about is not the chunk's fault.

    Messages behind it are on their way already and would go on without it, so the stream cannot.
    """
    return problem.status in (410, 429) or problem.status >= 500


def _close_code(problem: Problem) -> int:
    if isinstance(problem, Draining):
        return _SERVICE_RESTART
    if isinstance(problem, StreamGone) and problem.extras["reason"] in ("unloaded", "shutdown"):
        return _SERVICE_RESTART
    return _CODES.get(problem.status, _POLICY_VIOLATION)
