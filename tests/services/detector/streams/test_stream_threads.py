"""What a stream leaves to threads, so that the event loop stays free."""

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from services.detector.dataplane.streams.formats import EVENTS
from services.detector.dataplane.streams.standing import Chunk
from services.detector.dataplane.streams.stream import StreamOptions
from services.detector.dataplane.streams.table import StreamTable
from services.detector.dataplane.streams.windows import WindowLimits
from tests.services.detector.streams.conftest import LIMITS, Streams
from tests.services.detector.streams.recordings import events_at, packed


class NotingPool(ThreadPoolExecutor):
    """A pool that notes what it is given."""

    def __init__(self) -> None:
        super().__init__(1)
        self.given: list[str] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given.append(fn.__name__)
        return super().submit(fn, *args, **kwargs)


def test_many_events_are_cut_in_a_thread_whichever_chunk_brought_them(streams: Streams) -> None:
    limits = replace(LIMITS, window=WindowLimits(windows=20, events=10_000))
    small = Chunk(EVENTS, packed(events_at((20, 1, 1, 1))))
    large = Chunk(EVENTS, packed(events_at(*[(10, 1, 1, 1)] * 6000)))  # 78 kB

    async def scenario(pool: NotingPool) -> None:
        table = StreamTable(streams.plane.registry, limits, streams.plane.detector_metrics, pool)
        stream = table.open("fading", None, StreamOptions(start_us=0))
        for sequence, (chunk, given) in enumerate(
            [(Chunk(EVENTS, b""), []), (large, ["_digest", "cut"]), (small, ["cut"])]
        ):
            pool.given.clear()
            await stream.send(sequence, chunk)
            assert pool.given == given
        assert stream.pending_events == 6001

    with NotingPool() as pool:
        asyncio.run(scenario(pool))
