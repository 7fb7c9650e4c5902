"""How much of the memory the bodies of requests may hold at once."""

import contextlib
from collections.abc import Iterator

from fastapi import Request

from shared.core.problems import QueueFull


class BodyBudget:
    """Bytes of request bodies, on their way in or waiting; used from the event loop only."""

    def __init__(self, limit_bytes: int, largest_body_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._largest_body_bytes = largest_body_bytes
        self._held_bytes = 0

    @contextlib.contextmanager
    def hold(self, request: Request) -> Iterator[None]:
        """Count a request's body before it is read and until the block ends.

        A body of undeclared length counts as the largest allowed. Raises QueueFull where it does not fit,
        unless nothing else is held.
        """
        declared = request.headers.get("content-length", "")
        with self.hold_bytes(int(declared) if declared.isdecimal() else self._largest_body_bytes):
            yield

    @contextlib.contextmanager
    def hold_bytes(self, size_bytes: int) -> Iterator[None]:
        """Count so many bytes until the block ends; raises QueueFull as `hold` does."""
        if self._held_bytes and self._held_bytes + size_bytes > self._limit_bytes:
            raise QueueFull(
                f"bodies of {self._held_bytes:,} bytes are held already and {size_bytes:,} more would pass "
                f"the limit of {self._limit_bytes:,}; send this again after Retry-After"
            )
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes
