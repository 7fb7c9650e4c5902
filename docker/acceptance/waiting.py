"""What a step demands, and how long it waits for it."""

import contextlib
import http.client
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
Figures = dict[str, Any]  # what a step found worth writing down
Step = tuple[str, Callable[[], Figures]]


class StepFailed(Exception):
    """A step did not end as it should."""


def require(condition: bool, message: str) -> None:
    """Raise StepFailed with `message` unless the condition holds."""
    if not condition:
        raise StepFailed(message)


def wait_for(what: str, ask: Callable[[], T | None], within_s: float, *, every_s: float = 0.5) -> T:
    """Ask again and again until the answer is true; refused connections count as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if answer := ask():
                return answer
        require(time.monotonic() < deadline, f"{what}: not within {within_s:g} s")
        time.sleep(every_s)
