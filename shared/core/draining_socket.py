"""WebSockets as this server has them: refused without noise, and with time for last words when it stops."""

from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

SERVICE_RESTART = 1012


class DrainingSocket(WebSocketsSansIOProtocol):
    """Uvicorn's WebSocket, except that stopping does not cut it off.

    The application reads a disconnect with code 1012 behind what has arrived, and can still send: it answers
    what is due and closes. One that takes longer than the server's `drain_s` is cancelled.
    """

    def shutdown(self) -> None:
        """Tell the application that the server stops."""
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": SERVICE_RESTART})
        else:
            super().shutdown()

    async def send(self, message: Any) -> None:
        """Send an ASGI message."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True  # Uvicorn 0.54 forgets to, and logs an error for each refusal
