"""Calls from the command line to the services, with their problems shown as they were meant."""

import contextlib
from collections.abc import Iterator
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx

from shared.cli.console import ExitCode, fail
from shared.core.auth import is_loopback
from shared.core.settings import CommonSettings

_EXIT_CODES = {
    404: ExitCode.NOT_FOUND,
    422: ExitCode.USAGE,
    429: ExitCode.UNAVAILABLE,
    503: ExitCode.UNAVAILABLE,
}


def api_client(settings: CommonSettings, base_url: str, *, timeout_s: float = 30.0) -> httpx.Client:
    """Return a client for a service, with the first of the configured keys."""
    headers = {}
    if settings.api_keys:
        headers["X-API-Key"] = settings.api_keys[0].get_secret_value()
    # A proxy that the environment names cannot reach this machine's loopback.
    proxied = not is_loopback(urlsplit(base_url).hostname or "")
    return httpx.Client(base_url=base_url, headers=headers, timeout=timeout_s, trust_env=proxied)


@contextlib.contextmanager
def explained(service: str) -> Iterator[None]:
    """Turn what a call can raise into an error message, a hint and an exit code."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        fail_with_problem(error.response)
    except httpx.TimeoutException as error:
        fail(
            f"the {service} service at {error.request.url} did not answer in time", code=ExitCode.UNAVAILABLE
        )
    except httpx.TransportError as error:
        fail(
            f"cannot reach the {service} service at {error.request.url}: {error}",
            hint="start it with `sightline up`, or point SIGHTLINE_…_URL at one that runs",
            code=ExitCode.UNAVAILABLE,
        )


def fail_with_problem(response: httpx.Response) -> NoReturn:
    """Leave the command with the problem that a service answered."""
    response.read()
    if "json" in response.headers.get("content-type", ""):
        document: dict[str, Any] = response.json()
        message = f"{document.get('title', response.reason_phrase)}: {document.get('detail', '')}"
    else:
        message = f"{response.status_code} {response.reason_phrase} from {response.url}"
    hint = "set SIGHTLINE_API_KEYS to a key that the service accepts" if response.status_code == 401 else None
    fail(message, hint=hint, code=_EXIT_CODES.get(response.status_code, ExitCode.FAILURE))


def call(client: httpx.Client, service: str, method: str, path: str, **kwargs: Any) -> Any:
    """Return the JSON that a service answers; leave the command where it answers a problem."""
    with explained(service):
        response = client.request(method, path, **kwargs)
        response.raise_for_status()
        return response.json() if response.content else None
