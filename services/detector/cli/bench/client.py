"""Many requests at once whose answers are looked at: what counts is what they say, not their time."""

import asyncio
import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from services.detector.cli.bench.load import (
    HOST,
    Answer,
    Connection,
    exchange,
    request_bytes,
)


@dataclass(frozen=True, slots=True)
class Question:
    """One picture for one target; `thresholds` go with it as query parameters."""

    target: str
    picture: bytes
    thresholds: dict[str, float | int] = field(default_factory=dict)

    def request(self, port: int) -> bytes:
        """Return the whole HTTP request."""
        query = f"?{urlencode(self.thresholds)}" if self.thresholds else ""
        return request_bytes(port, f"{self.target}{query}", self.picture)


class Unanswered(RuntimeError):
    """A request got another status than 200, or none; the message says which."""


def document(answer: Answer, expected: Collection[int] = (200,)) -> dict[str, Any]:
    """Return the JSON of an answer. Raises Unanswered for another status than is expected."""
    if answer.status not in expected:
        raise Unanswered(f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")
    found: dict[str, Any] = json.loads(answer.body)
    return found


async def ask_all(
    port: int,
    questions: Iterable[tuple[int, Question]],
    concurrency: int,
    on_answer: Callable[[int, Answer | Exception], None],
) -> None:
    """Ask numbered questions over `concurrency` connections; tell each answer, or the error in its place.

    The iterable is drawn from as connections become free, so it may go on for as long as is wanted.
    """
    waiting = iter(questions)

    async def work() -> None:
        connection: Connection | None = None
        try:
            for number, question in waiting:
                try:
                    if connection is None:
                        connection = await asyncio.open_connection(HOST, port)
                    on_answer(number, await exchange(connection, question.request(port)))
                except (OSError, EOFError, TimeoutError, ValueError) as error:
                    on_answer(number, error)
                    if connection is not None:
                        connection[1].close()
                    connection = None
                    await asyncio.sleep(0.05)
        finally:
            if connection is not None:
                connection[1].close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
