"""What a stream answers, and what is left of it when something goes wrong."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.detector.dataplane.problems import InferenceFailed
from services.detector.dataplane.streams.answers import ChunkAnswer
from services.detector.dataplane.streams.formats import DAT, EVENTS, HISTOGRAMS
from services.detector.dataplane.streams.problems import (
    SequenceConflict,
    StreamGone,
    UnknownChunkType,
    WrongChunk,
)
from services.detector.dataplane.streams.standing import Chunk
from services.detector.dataplane.streams.stream import Stream, StreamOptions
from services.detector.dataplane.tasks.candidates import Overrides
from shared.core.problems import Problem
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram
from tests.fixtures.tiny_stream_model import TinyStreamModel, tiny_stream_repository
from tests.services.detector.streams.conftest import Streams, streams_of
from tests.services.detector.streams.recordings import (
    assert_same,
    cuts,
    events_at,
    offline,
    packed,
    random_events,
)

FROM_ZERO = StreamOptions(start_us=0)
END_US = 600_000
ONE_EVENT = Chunk(EVENTS, packed(events_at((10, 30, 7, 1))), until_us=50_000)


def chunk(events: Events, until_us: int | None = None) -> Chunk:
    return Chunk(EVENTS, packed(events), until_us)


def silence(until_us: int) -> Chunk:
    return Chunk(EVENTS, b"", until_us)


def found(*answers: ChunkAnswer) -> list[tuple[Any, Any, Any]]:
    return [
        (window.detections.boxes, window.detections.scores, window.detections.labels)
        for answer in answers
        for window in answer.windows
    ]


def scores(answer: ChunkAnswer) -> list[list[float]]:
    return [window.detections.scores.tolist() for window in answer.windows]


async def send_all(stream: Stream, chunks: list[Chunk]) -> list[ChunkAnswer]:
    return [await stream.send(stream.next_sequence, one) for one in chunks]


def test_an_event_is_remembered_and_fades(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        first = await stream.send(0, ONE_EVENT)
        (window,) = first.windows
        assert (window.index, window.start_us, window.end_us) == (0, 0, 50_000)
        np.testing.assert_array_equal(window.detections.boxes, [[30, 7, 31, 8]])
        assert scores(first) == [[pytest.approx(1 / 2)]]
        assert scores(await stream.send(1, silence(200_000))) == [
            [pytest.approx(1 / 3)],
            [pytest.approx(1 / 5)],
            [],
        ]

    asyncio.run(scenario())


def test_boxes_are_in_pixels_of_the_sensor_where_the_input_is_halved(tmp_path: Path) -> None:
    async def scenario(streams: Streams) -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        answer = await stream.send(0, Chunk(EVENTS, packed(events_at((10, 31, 7, 1))), until_us=50_000))
        np.testing.assert_array_equal(answer.windows[0].detections.boxes, [[30, 6, 32, 8]])

    with streams_of(tiny_stream_repository(tmp_path, model=TinyStreamModel(halved=True))) as streams:
        asyncio.run(scenario(streams))


@given(places=st.lists(st.integers(0, 400), max_size=8), seed=st.integers(0, 2**16))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_cutting_anywhere_gives_the_answers_of_the_graph_alone(
    streams: Streams, places: list[int], seed: int
) -> None:
    events = random_events(seed)

    async def scenario() -> list[ChunkAnswer]:
        stream = streams.table.open("fading", None, FROM_ZERO)
        parts = [chunk(part) for part in cuts(events, places)]
        answers = await send_all(stream, [*parts, silence(END_US)])
        streams.table.end(stream.id, "client")
        return answers

    assert_same(found(*asyncio.run(scenario())), offline(events, 12))


def test_streams_side_by_side_do_not_mix_in_batches(repository: Any) -> None:
    recordings = [random_events(seed) for seed in range(4)]

    async def one(streams: Streams, number: int) -> list[ChunkAnswer]:
        stream = streams.table.open("fading", None, FROM_ZERO)
        places = np.random.default_rng(number).integers(0, 400, 10)
        parts = [chunk(part) for part in cuts(recordings[number], places)]
        return await send_all(stream, [*parts, silence(END_US)])

    async def scenario(streams: Streams) -> list[list[ChunkAnswer]]:
        return await asyncio.gather(*(one(streams, number) for number in range(4)))

    with streams_of(repository, max_batch=4, max_delay_s=0.02) as streams:
        answers = asyncio.run(scenario(streams))
        runs = streams.metric("batch_size_count", model="fading", version="1")
        assert runs is not None
        assert runs < 4 * 12, "nothing shared a batch"
    for events, got in zip(recordings, answers, strict=True):
        assert_same(found(*got), offline(events, 12))


def test_dat_and_whole_windows_give_the_answers_of_events(streams: Streams) -> None:
    events = random_events(3)
    clock = events.t.astype(np.uint32)
    word = events.x.astype(np.uint32) | events.y.astype(np.uint32) << 14 | events.p.astype(np.uint32) << 28
    dat = np.stack([clock, word], axis=1).astype("<u4").tobytes()
    frames = [
        stacked_histogram(events.between(start, start + 50_000), (32, 48), bins=2)
        for start in range(0, END_US, 50_000)
    ]

    async def scenario() -> list[list[ChunkAnswer]]:
        as_dat = streams.table.open("fading", None, FROM_ZERO)
        as_frames = streams.table.open("fading", None, FROM_ZERO)
        half = len(events) // 2 * 8
        return [
            await send_all(as_dat, [Chunk(DAT, dat[:half]), Chunk(DAT, dat[half:], END_US)]),
            await send_all(
                as_frames,
                [Chunk(HISTOGRAMS, np.stack(part).tobytes()) for part in (frames[:5], frames[5:])],
            ),
        ]

    for answers in asyncio.run(scenario()):
        assert [w.index for answer in answers for w in answer.windows] == list(range(12))
        assert_same(found(*answers), offline(events, 12))


def test_a_step_advances_the_state_and_keeps_it(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        histogram = np.zeros((1, 4, 32, 48), np.uint8)
        histogram[0, 0, 7, 30] = 1
        outputs, _ = await stream.step(histogram)
        assert outputs.keys() == {"boxes", "scores", "labels", "class_probabilities"}
        assert outputs["scores"][0, 0] == pytest.approx(1 / 2)
        assert outputs["boxes"].shape == (1, 2, 4)
        outputs, _ = await stream.step(np.zeros_like(histogram))
        assert outputs["scores"][0, 0] == pytest.approx(1 / 3)
        assert stream.windows == 2
        with pytest.raises(WrongChunk, match=r"one window is uint8 \[1, 4, 32, 48\]"):
            await stream.step(np.zeros((1, 4, 48, 32), np.uint8))
        with pytest.raises(UnknownChunkType, match="cannot go on with"):
            await stream.send(0, ONE_EVENT)

    asyncio.run(scenario())


def test_thresholds_may_be_stated_for_a_stream(streams: Streams) -> None:
    async def scenario() -> None:
        options = StreamOptions(start_us=0, overrides=Overrides(score_threshold=0.4))
        stream = streams.table.open("fading", None, options)
        assert scores(await stream.send(0, ONE_EVENT)) == [[0.5]]
        assert scores(await stream.send(1, silence(100_000))) == [[]]

    asyncio.run(scenario())


# Repeats, gaps and what comes at the same time


def test_a_chunk_sent_again_is_answered_again_and_taken_once(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        first = await stream.send(0, ONE_EVENT)
        assert await stream.send(0, ONE_EVENT) is first
        assert stream.next_sequence == 1
        assert scores(await stream.send(1, silence(100_000))) == [[pytest.approx(1 / 3)]]

    asyncio.run(scenario())


def test_a_number_used_again_for_another_chunk_is_refused(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        await stream.send(0, ONE_EVENT)
        with pytest.raises(SequenceConflict, match="chunk 0 was another one") as caught:
            await stream.send(0, silence(60_000))
        assert caught.value.extras == {"expected": 1}

    asyncio.run(scenario())


@pytest.mark.parametrize("sequence", [0, 1, 3, 7])
def test_a_gap_is_refused_with_the_number_that_is_expected(streams: Streams, sequence: int) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        await send_all(stream, [ONE_EVENT, silence(60_000)])
        with pytest.raises(SequenceConflict) as caught:
            await stream.send(sequence, silence(70_000))
        assert (caught.value.status, caught.value.extras) == (409, {"expected": 2})

    asyncio.run(scenario())


def test_a_repeat_waits_for_the_answer_that_is_being_computed(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        streams.gate.close()
        first = asyncio.create_task(stream.send(0, ONE_EVENT))
        again = asyncio.create_task(stream.send(0, ONE_EVENT))
        await asyncio.sleep(0.02)
        for sequence, other in ((0, silence(60_000)), (1, silence(60_000))):
            with pytest.raises(SequenceConflict, match="another chunk of this stream is being answered"):
                await stream.send(sequence, other)
        first.cancel()  # the one that came first may go: the other still waits
        await asyncio.sleep(0)
        streams.gate.open()
        assert scores(await again) == [[0.5]]
        assert first.cancelled()
        assert scores(await stream.send(1, silence(100_000))) == [[pytest.approx(1 / 3)]]

    asyncio.run(scenario())


# Failures


def test_a_failure_in_the_middle_of_a_chunk_leaves_the_stream_as_it_was(tmp_path: Path) -> None:
    async def scenario(streams: Streams) -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        await stream.send(0, ONE_EVENT)
        bad = events_at((60_000, 1, 1, 1), *[(110_000, 2, 2, 1)] * 8, (160_000, 3, 3, 1))
        for _ in range(2):
            with pytest.raises(InferenceFailed):
                await stream.send(1, chunk(bad))
        assert (stream.next_sequence, stream.windows, stream.pending_events) == (1, 1, 0)
        assert scores(await stream.send(1, silence(100_000))) == [[pytest.approx(1 / 3)]]

    with streams_of(tiny_stream_repository(tmp_path, model=TinyStreamModel(nan_from=6))) as streams:
        asyncio.run(scenario(streams))


def test_a_chunk_whose_client_goes_is_undone_and_may_be_sent_again(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        streams.gate.close()
        going = asyncio.create_task(stream.send(0, ONE_EVENT))
        await asyncio.sleep(0.02)
        going.cancel()
        again = asyncio.create_task(stream.send(0, ONE_EVENT))  # while the first is being undone
        await asyncio.sleep(0.02)
        streams.gate.open()
        assert scores(await again) == [[0.5]]
        assert stream.windows == 1

    asyncio.run(scenario())


BAD = st.one_of(
    st.binary(max_size=200).map(lambda body: Chunk(EVENTS, body)),
    st.binary(max_size=200).map(lambda body: Chunk(DAT, body)),
    st.binary(max_size=60).map(lambda body: Chunk(DAT, b"% Version 2\n" + body)),
    st.binary(max_size=200).map(lambda body: Chunk(HISTOGRAMS, body)),
    st.tuples(st.binary(max_size=40), st.integers(-5, 2**63)).map(lambda both: Chunk(EVENTS, *both)),
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1), st.integers(0, 60), st.integers(0, 40), st.integers(0, 3)
        ),
        max_size=6,
    ).map(lambda records: chunk(events_at(*records))),
    st.text(max_size=20).map(lambda kind: Chunk(kind, b"")),
)


@given(chunks=st.lists(BAD, max_size=4))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_sent_is_taken_whole_or_refused_with_nothing_taken(
    streams: Streams, chunks: list[Chunk]
) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, StreamOptions())
        for one in chunks:
            before = (stream.next_sequence, stream.windows, stream.pending_events, stream.start_us)
            refused: Problem | None = None
            try:
                answer = await stream.send(stream.next_sequence, one)
            except Problem as problem:
                refused = problem
            after = (stream.next_sequence, stream.windows, stream.pending_events, stream.start_us)
            if refused is not None:
                assert 400 <= refused.status < 500
                assert before == after
            else:
                assert after[:2] == (before[0] + 1, before[1] + len(answer.windows))
        streams.table.end(stream.id, "client")

    asyncio.run(scenario())


def test_an_ended_stream_takes_nothing_and_gives_up_what_it_computes(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        streams.gate.close()
        sending = asyncio.create_task(stream.send(0, ONE_EVENT))
        await asyncio.sleep(0.02)
        streams.table.end(stream.id, "client")
        with pytest.raises(StreamGone, match="its client closed it"):
            await sending
        streams.gate.open()
        for number in (0, 1):
            with pytest.raises(StreamGone):
                await stream.send(number, ONE_EVENT)
        with pytest.raises(StreamGone):
            await stream.step(np.zeros((1, 4, 32, 48), np.uint8))
        assert stream.loaded.users == 0

    asyncio.run(scenario())
