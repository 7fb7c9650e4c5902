"""Sequences whose turn comes after the world has changed."""

import asyncio
from pathlib import Path

import numpy as np

from services.detector.oip.request import InferRequest, SequencePlace, TensorInput
from services.detector.oip.sequences import Sequences
from tests.fixtures.tiny_stream_model import TinyStreamModel, add_tiny_stream_version, tiny_stream_repository
from tests.services.detector.streams.conftest import Streams, streams_of

WINDOW = np.zeros((1, 4, 32, 48), np.uint8)
START = InferRequest(
    inputs=(TensorInput("histograms", "UINT8", WINDOW.shape, None, memoryview(WINDOW.tobytes())),),
    sequence=SequencePlace(5, start=True),
)


def test_a_sequence_may_begin_although_another_version_went_live_while_it_waited(tmp_path: Path) -> None:
    async def scenario(streams: Streams) -> None:
        sequences = Sequences(streams.table)
        with streams.plane.registry.lease("fading") as before:
            add_tiny_stream_version(streams.repository, model=TinyStreamModel(score_scale=0.5))
            await asyncio.to_thread(streams.plane.watcher.scan)
            used, _ = await sequences.infer(before, None, START, wait_s=1)
        assert (before.version, used.version) == (1, 2)

    with streams_of(tiny_stream_repository(tmp_path)) as streams:
        asyncio.run(scenario(streams))
