"""Errors that a caller can act on, with the status and the words they carry (RFC 9457).

Raised wherever they are understood; `shared.core.http` turns them into responses in one place.
"""

import math
from http import HTTPStatus
from typing import Any


class Problem(Exception):
    """Base of every error that is meant for the caller of a service.

    A subclass states `status` and, for a case of its own, a `code`; `detail` says what was wrong, with
    which value, and what to do. Keyword arguments travel as extension members of the problem document.
    """

    status: int = 500
    code: str = "internal_error"
    title: str = "Internal error"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extras: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.extras = extras

    @property
    def type(self) -> str:
        """The URI that names this kind of problem."""
        return f"urn:sightline:problem:{self.code}"


class StatusProblem(Problem):
    """A problem that is no more than its HTTP status, such as a path or a method that does not exist."""

    def __init__(self, status: int, detail: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail, headers=headers)
        registered = HTTPStatus(status)
        self.status, self.code, self.title = status, registered.name.lower(), registered.phrase


class BadRequest(Problem):
    status, code, title = 400, "bad_request", "Bad request"


class Unauthorized(Problem):
    status, code, title = 401, "unauthorized", "No valid API key"


class NotFound(Problem):
    status, code, title = 404, "not_found", "Not found"


class Conflict(Problem):
    status, code, title = 409, "conflict", "Conflict"


class PayloadTooLarge(Problem):
    status, code, title = 413, "payload_too_large", "Payload too large"


class UnsupportedMediaType(Problem):
    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class UnprocessableContent(Problem):
    status, code, title = 422, "unprocessable_content", "Wrong fields"


class _Retryable(Problem):
    """A problem that passes: `Retry-After` says when to try again."""

    def __init__(self, detail: str, *, retry_after_s: float = 1.0, **extras: Any) -> None:
        seconds = max(1, math.ceil(retry_after_s))
        super().__init__(detail, headers={"Retry-After": str(seconds)}, **extras)


class QueueFull(_Retryable):
    status, code, title = 429, "queue_full", "Queue full"


class Unavailable(_Retryable):
    status, code, title = 503, "unavailable", "Not available now"


class DeadlineExceeded(Problem):
    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"
