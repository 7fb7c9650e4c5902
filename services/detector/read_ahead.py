"""Messages of a WebSocket, read while an earlier one is being worked on, but not without end."""

import asyncio
from collections import deque

from fastapi import WebSocket
from starlette.types import Message

_MOST_MESSAGES = 16
_MOST_BYTES = 1 << 20  # beyond it nothing more is read; the message that passes it may be of any size


class ReadAhead:
    """What a client has sent and nobody has taken yet.

    Reading goes on while there is room, so that a client that leaves is noticed although work for it goes on.
    """

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self.code: int | None = None  # with which the WebSocket ended
        self._changed = asyncio.Condition()

    async def read(self) -> None:
        """Read until the WebSocket ends."""
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            async with self._changed:
                self._waiting.append(message)
                self._bytes += _size(message)
                self._changed.notify_all()
                await self._changed.wait_for(self._has_room)
        async with self._changed:
            self.code = int(message.get("code", 1005))
            self._changed.notify_all()

    async def next(self) -> Message | None:
        """Return the next message, of type `websocket.receive`, once it is there; None after the last one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._waiting or self.code is not None)
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._bytes -= _size(message)
            self._changed.notify_all()
            return message

    def _has_room(self) -> bool:
        return len(self._waiting) < _MOST_MESSAGES and self._bytes < _MOST_BYTES


def _size(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or b"")
