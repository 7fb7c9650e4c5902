"""Runs an application: binds before anything is built, drains on SIGTERM, ends with status 0."""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Protocol, TypeVar

import uvicorn
from fastapi import FastAPI

from shared.core.auth import require_key_beyond_loopback
from shared.core.logging import configure_logging, get_logger
from shared.core.settings import CommonSettings

logger = get_logger(__name__)


class _DrainingServer(uvicorn.Server):
    """Uvicorn's server, whose first signal flips readiness and whose exit is not a death by signal."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, lame_duck_s: float) -> None:
        super().__init__(config)
        self._application = app
        self._lame_duck_s = lame_duck_s

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._application.state.draining:  # a second signal means now
            self.force_exit = self.should_exit = True
            return
        self._application.state.draining = True
        logger.info("draining", signal=signal.Signals(sig).name)
        if self._lame_duck_s > 0:
            # Load balancers get to see /readyz fail while new requests are still answered.
            asyncio.get_running_loop().call_later(self._lame_duck_s, self._stop)
        else:
            self._stop()

    def _stop(self) -> None:
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in handled}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


class Listener(Protocol):
    """What the settings of every service say about serving."""

    host: str
    port: int
    drain_s: float


S = TypeVar("S", bound=Listener)


def run_service(
    name: str,
    create_app: Callable[[CommonSettings, S], FastAPI],
    service: S,
    *,
    lame_duck_s: float = 0.0,
) -> None:
    """Read the common settings and serve `create_app(common, service)` until told to stop."""
    common = CommonSettings()
    configure_logging(common, name)
    serve(
        lambda: create_app(common, service),
        host=service.host,
        port=service.port,
        settings=common,
        drain_s=service.drain_s,
        lame_duck_s=lame_duck_s,
    )


def serve(
    app_factory: Callable[[], FastAPI],
    *,
    host: str,
    port: int,
    settings: CommonSettings,
    drain_s: float,
    lame_duck_s: float = 0.0,
) -> None:
    """Serve until SIGTERM or SIGINT; requests in flight then have `drain_s` seconds to finish.

    Exits with status 2 and a message where the address is not free or open to the network without a key.
    """
    try:
        require_key_beyond_loopback(host, settings)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (ValueError, OSError) as error:
        sys.exit(_refusal(error, host, port))
    with listener:
        app = app_factory()
        server = _DrainingServer(server_config(app, drain_s=drain_s), app, lame_duck_s)
        logger.info("listening", url=f"http://{host}:{listener.getsockname()[1]}")
        server.run(sockets=[listener])
    if not server.started:
        sys.exit(1)


def server_config(app: FastAPI, *, drain_s: float) -> uvicorn.Config:
    """Return how `app`, which `create_service` made, is served; it listens where it is told to."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws=_draining_socket() if app.state.websockets else "none",
        ws_max_size=app.state.max_body_bytes,
        # A proxy ends what is silent. Answers are not waited for: they come behind everything that the other
        # side has sent and that is not read while a model is busy. Each route has its own idle time-out.
        ws_ping_interval=20.0,
        ws_ping_timeout=None,
        ws_per_message_deflate=False,  # tens of kilobytes and a core's time for each socket
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here looks at the client's address
        timeout_graceful_shutdown=max(1, round(drain_s)),
        timeout_keep_alive=30,
    )


def _draining_socket() -> type[asyncio.Protocol]:
    from shared.core.draining_socket import DrainingSocket  # only services with WebSockets have its package

    return DrainingSocket


def _refusal(error: Exception, host: str, port: int) -> int:
    reason = str(error) if isinstance(error, ValueError) else f"cannot listen on {host}:{port}: {error}"
    print(f"error: {reason}", file=sys.stderr)
    return 2
