"""What happens around every request, as plain ASGI: id, key, body limit, deadline, metrics, access log.

One layer and no framework in it, because it stands on the hot path of the detector. A WebSocket is a request,
too: its handshake has to pass what a POST has to pass, and is what is counted.
"""

import asyncio
import itertools
import os
import re
import time
from collections.abc import Callable

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from shared.core.auth import KeyRing, is_cross_site, is_cross_site_socket, key_from_headers
from shared.core.logging import get_logger
from shared.core.problems import NotFound, PayloadTooLarge, Problem, Unauthorized
from shared.core.telemetry import HttpMetrics

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/docs/oauth2-redirect"})
QUIET_PATHS = frozenset({"/livez", "/readyz", "/metrics"})  # asked all day long by machines
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_SWITCHING_PROTOCOLS = 101  # the status of a handshake that was accepted
_INTERNAL_ERROR = 1011  # the code of a WebSocket that the server ends because of a fault of its own
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

logger = get_logger(__name__)


class BodyTimeout(Problem):
    status, code, title = 408, "body_timeout", "Body did not arrive"


class CrossSite(Problem):
    status, code, title = 403, "cross_site", "Sent by another site's page"


class ClientGone(Exception):
    """The client closed the connection before its body had arrived, or before all was sent to it."""


class HttpShell:
    """ASGI middleware; `respond` builds the response that carries a problem.

    WebSockets get in where `websockets` says that the application has routes for them.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: str,
        keys: KeyRing,
        metrics: HttpMetrics,
        max_body_bytes: int,
        body_timeout_s: float,
        respond: Callable[[str, str, Problem], Response],
        websockets: bool = False,
    ) -> None:
        self._app = app
        self._service = service
        self._keys = keys
        self._metrics = metrics
        self._in_flight = metrics.in_flight.labels(service)
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._respond = respond
        self._websockets = websockets
        # A start drawn at random and a count: as unique as drawing each, without asking the system each time.
        self._id_prefix = os.urandom(8).hex()
        self._id_numbers = itertools.count(int.from_bytes(os.urandom(4)))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._socket(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._identify(scope, headers)
        status = 0  # of the response once it has started

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        async def answer(problem: Problem) -> None:
            await self._respond(scope["path"], request_id, problem)(scope, receive, send_with_id)

        with self._in_flight.track_inprogress():
            try:
                self._admit(scope["method"], scope["path"], headers)
                self._check_declared_size(headers)
                await self._app(scope, self._limited(receive, headers), send_with_id)
            except Problem as problem:
                if status:
                    raise
                await answer(problem)
            except ClientGone:
                status = status or 499  # nobody is left to read it; the count is what remains
            except Exception:
                logger.exception("request failed", path=scope["path"], request_id=request_id)
                if status:
                    raise
                await answer(Problem(f"something went wrong here; the log has it under request {request_id}"))
            finally:
                self._count(scope, scope["method"], status, time.perf_counter() - started)
                structlog.contextvars.unbind_contextvars("request_id")

    async def _socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a handshake, and see to the WebSocket that may come of it until it is closed.

        What an application raises before it accepts becomes an HTTP response, which every ASGI server that is
        used here can send (extension `websocket.http.response`).
        """
        started = time.perf_counter()
        headers = dict(scope["headers"])
        request_id = self._identify(scope, headers)
        status = 0  # of the answer to the handshake
        code = None  # with which the application closed

        async def answer(problem: Problem) -> None:
            await self._respond(scope["path"], request_id, problem)(scope, receive, send_noting)

        async def send_noting(message: Message) -> None:
            nonlocal status, code
            kind = message["type"]
            if kind in ("websocket.accept", "websocket.http.response.start"):
                status = message.get("status", _SWITCHING_PROTOCOLS)
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                self._count(scope, "WEBSOCKET", status, time.perf_counter() - started)
            elif kind == "websocket.close":
                if not status:  # how a router says that it knows no such path
                    await answer(NotFound("no WebSocket is at this path; see /docs"))
                    return
                code = message.get("code", 1000)
            try:
                await send(message)
            except OSError as error:  # what ASGI lays down for a client that is not there any more
                raise ClientGone from error

        with self._in_flight.track_inprogress():
            try:
                self._admit("WEBSOCKET", scope["path"], headers)
                if not self._websockets:
                    raise NotFound("there are no WebSockets here; see /docs")  # noqa: TRY301
                await self._app(scope, receive, send_noting)
            except Problem as problem:
                if status:
                    raise
                await answer(problem)
            except (ClientGone, WebSocketDisconnect):
                pass
            except Exception:
                logger.exception("socket failed", path=scope["path"])
                if status == _SWITCHING_PROTOCOLS and code is None:
                    await send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": request_id})
                elif not status:
                    await answer(Problem(f"something went wrong; the log has it under request {request_id}"))
            finally:
                if status == _SWITCHING_PROTOCOLS:
                    open_s = round(time.perf_counter() - started, 3)
                    logger.info("socket closed", path=scope["path"], code=code, open_s=open_s)
                structlog.contextvars.unbind_contextvars("request_id")

    def _identify(self, scope: Scope, headers: dict[bytes, bytes]) -> str:
        """Return the id of a request, its own if that is harmless, and tell the application and the log."""
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        if _REQUEST_ID.fullmatch(given):
            request_id = given
        else:
            request_id = f"{self._id_prefix}{next(self._id_numbers):016x}"
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        return request_id

    def _admit(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        # A browser asks no leave for a plain POST or a WebSocket, and a server on this machine need not have
        # keys: without this, any page that somebody opens could unload a model.
        foreign = is_cross_site_socket(headers) if method == "WEBSOCKET" else is_cross_site(headers)
        if foreign and method not in _SAFE_METHODS:
            raise CrossSite(f"a browser sent this {method} for a page of another site; call it otherwise")
        if path not in OPEN_PATHS and not self._keys.accepts(key_from_headers(headers)):
            raise Unauthorized(
                "send a valid key in X-API-Key, or as Authorization: Bearer",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_declared_size(self, headers: dict[bytes, bytes]) -> None:
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise self._too_large(int(declared))

    def _too_large(self, size: int) -> PayloadTooLarge:
        # The rest of the body is not read, so the connection cannot be used again.
        return PayloadTooLarge(
            f"the body has {size:,} bytes or more, the limit is {self._max_body_bytes:,}",
            headers={"Connection": "close"},
            limit_bytes=self._max_body_bytes,
        )

    def _limited(self, receive: Receive, headers: dict[bytes, bytes]) -> Receive:
        """Return `receive` with a limit on the bytes of the body and on the wait for them."""
        received_bytes = 0
        complete = b"content-length" not in headers and b"transfer-encoding" not in headers
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._body_timeout_s

        async def limited() -> Message:
            nonlocal received_bytes, complete
            if complete:  # from here on an application only waits for the client to go
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise BodyTimeout(
                    f"the body was not complete after {self._body_timeout_s:g} s; check Content-Length",
                    headers={"Connection": "close"},
                ) from error
            if message["type"] == "http.disconnect":
                raise ClientGone
            received_bytes += len(message.get("body", b""))
            if received_bytes > self._max_body_bytes:
                raise self._too_large(received_bytes)
            complete = not message.get("more_body", False)
            return message

        return limited

    def _count(self, scope: Scope, method: str, status: int, duration_s: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._metrics.requests.labels(self._service, method, route, status).inc()
        self._metrics.duration.labels(self._service, method, route).observe(duration_s)
        log = logger.debug if scope["path"] in QUIET_PATHS else logger.info
        log(
            "request",
            method=method,
            path=scope["path"],
            status=status,
            duration_ms=round(duration_s * 1000, 2),
        )
