"""WebSockets as this server has them: refused without noise, ended so that the other side knows why."""

import asyncio
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SERVICE_RESTART = 1012
_LINGER_S = 2.0
_CLOSING_S = 12.0  # beyond the ten seconds that Uvicorn waits for the other side's word of its end
_NOT_A_HANDSHAKE = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    b"a WebSocket is opened with a GET that has no body (RFC 6455 section 4.1)\n"
)


class DrainingSocket(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket, except that stopping does not cut it off, and neither does a wrong message.

    Whoever does not read what was sent does not keep it open, either.

    Where the server stops, the application reads a disconnect with code 1012 behind what has arrived, and can
    still send: it answers what is due and closes. One that takes longer than the server's `drain_s` is
    cancelled.
    """

    _failed = False
    _abortion: asyncio.TimerHandle | None = None

    def shutdown(self) -> None:
        """Tell the application that the server stops."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": SERVICE_RESTART})
        else:
            super().shutdown()

    def data_received(self, data: bytes) -> None:
        """Take bytes; refuse a handshake that cannot be read, which would be left without an answer."""
        if self._failed and not self.handshake_initiated:
            return
        super().data_received(data)
        if self.conn.handshake_exc is None or self.handshake_initiated:
            return
        self._failed = True
        # The parser has words for headers that are too large, and none for the rest.
        self.transport.write(b"".join(self.conn.data_to_send()) or _NOT_A_HANDSHAKE)
        self.transport.close()

    def handle_parser_exception(self) -> None:
        """Say what is wrong with what came, too large a message for one, and end.

        Closing at once would reset the connection, since more is on its way, and take back the word.
        """
        if self._failed:
            return  # the rest of the message
        self._failed = self.close_sent = True
        assert self.conn.close_sent is not None
        code, reason = self.conn.close_sent.code, self.conn.close_sent.reason
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_S, self.transport.close)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Give the other side a while for what is on its way; a transport would wait for it for ever."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._abortion = self.loop.call_later(_CLOSING_S, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        if self._abortion is not None:
            self._abortion.cancel()
        super().connection_lost(exc)

    async def send(self, message: Any) -> None:
        """Send an ASGI message."""
        if self._failed:
            raise ClientDisconnected
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # Uvicorn 0.54 forgets to, and logs an error for each refusal
