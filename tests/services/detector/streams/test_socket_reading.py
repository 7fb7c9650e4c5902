"""How far a stream's WebSocket is read ahead of its answers."""

import asyncio
from typing import Any

import pytest

from services.detector.read_ahead import ReadAhead


class Client:
    """Sends messages as fast as they are read, and goes after the last one."""

    def __init__(self, messages: list[dict[str, Any]], code: int = 1000) -> None:
        self.left = [*messages, {"type": "websocket.disconnect", "code": code}]

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        return self.left.pop(0)


def chunks(count: int, size: int) -> list[dict[str, Any]]:
    return [{"type": "websocket.receive", "bytes": bytes([number]) * size} for number in range(count)]


async def settled(client: Client) -> int:
    """Return how many messages are left once nothing is read any more."""
    for _ in range(1000):
        await asyncio.sleep(0)
    return len(client.left) - 1


@pytest.mark.parametrize(("size", "most"), [(10, 16), (100_000, 11), (5_000_000, 1)])
def test_reading_stops_at_sixteen_messages_or_a_mebibyte(size: int, most: int) -> None:
    async def scenario() -> None:
        client = Client(chunks(40, size))
        messages = ReadAhead(client)  # type: ignore[arg-type]
        reading = asyncio.create_task(messages.read())
        assert await settled(client) == 40 - most
        taken = await messages.next()
        assert taken is not None
        assert taken["bytes"][0] == 0
        assert await settled(client) == 40 - most - 1
        for number in range(1, 40):
            taken = await messages.next()
            assert taken is not None
            assert taken["bytes"][0] == number
        assert await messages.next() is None
        await reading
        assert messages.code == 1000

    asyncio.run(scenario())


def test_the_end_is_noticed_while_messages_wait() -> None:
    async def scenario() -> None:
        messages = ReadAhead(Client(chunks(3, 10), code=1001))  # type: ignore[arg-type]
        await messages.read()
        assert messages.code == 1001
        assert [(await messages.next()) is None for _ in range(5)] == [False] * 3 + [True] * 2

    asyncio.run(scenario())
