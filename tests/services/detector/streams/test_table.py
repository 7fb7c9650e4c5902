"""How streams are opened, found and ended."""

import asyncio
import shutil
from dataclasses import replace
from typing import Any

import pytest

from services.detector.dataplane.problems import Draining, FixedSuppression, ModelNotReady, WrongTask
from services.detector.dataplane.streams import table as table_module
from services.detector.dataplane.streams.formats import EVENTS
from services.detector.dataplane.streams.problems import (
    StreamGone,
    TooManyStreams,
    UnknownStream,
    WrongSensor,
)
from services.detector.dataplane.streams.standing import Chunk
from services.detector.dataplane.streams.stream import StreamOptions
from services.detector.dataplane.tasks.candidates import Overrides
from services.detector.dataplane.tasks.detection import DetectionTask
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from services.detector.dataplane.tasks.task import expect
from tests.fixtures.tiny_detection_model import add_tiny_version
from tests.fixtures.tiny_stream_model import TinyStreamModel, add_tiny_stream_version
from tests.services.detector.streams.conftest import LIMITS, Streams, streams_of
from tests.services.detector.streams.recordings import events_at, packed

FROM_ZERO = StreamOptions(start_us=0)
ONE_EVENT = Chunk(EVENTS, packed(events_at((10, 30, 7, 1))), until_us=50_000)


def silence(until_us: int) -> Chunk:
    return Chunk(EVENTS, b"", until_us)


def test_a_stream_is_found_by_its_id_until_it_ends(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        assert streams.table.get(stream.id) is stream
        assert streams.table.streams() == [stream]
        streams.table.end(stream.id, "client")
        with pytest.raises(StreamGone, match="its client closed it") as caught:
            streams.table.get(stream.id)
        assert (caught.value.status, caught.value.extras) == (410, {"reason": "client"})
        assert stream.loaded.users == 0

    asyncio.run(scenario())


def test_unknown_ids_say_whether_they_could_ever_have_been_one(streams: Streams) -> None:
    with pytest.raises(UnknownStream, match="'nonsense' is no id"):
        streams.table.get("nonsense")
    with pytest.raises(StreamGone, match="or the server has started anew") as caught:
        streams.table.get("0" * 32)
    assert caught.value.extras == {"reason": "forgotten"}


def test_only_so_many_ended_streams_are_remembered(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "_REMEMBERED", 2)

    async def scenario() -> None:
        ids = []
        for _ in range(3):
            ids.append(streams.table.open("fading", None, FROM_ZERO).id)
            streams.table.end(ids[-1], "client")
        reasons = []
        for number in ids:
            with pytest.raises(StreamGone) as caught:
                streams.table.get(number)
            reasons.append(caught.value.extras["reason"])
        assert reasons == ["forgotten", "client", "client"]

    asyncio.run(scenario())


def test_streams_are_limited_in_number(streams: Streams) -> None:
    async def scenario() -> None:
        for second in range(4):
            streams.now[0] = second
            streams.table.open("fading", None, FROM_ZERO)
        with pytest.raises(TooManyStreams) as caught:
            streams.table.open("fading", None, FROM_ZERO)
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "57"})
        streams.table.end(streams.table.streams()[2].id, "client")
        streams.table.open("fading", None, FROM_ZERO)

    asyncio.run(scenario())


def test_an_idle_stream_ends_and_makes_room(streams: Streams) -> None:
    async def scenario() -> None:
        used, idle = (streams.table.open("fading", None, FROM_ZERO) for _ in range(2))
        streams.now[0] = 59
        await used.send(0, ONE_EVENT)
        streams.now[0] = 61
        streams.table.expire()
        assert streams.table.streams() == [used]
        with pytest.raises(StreamGone, match="SIGHTLINE_DETECTOR_STREAM_IDLE_S") as caught:
            streams.table.get(idle.id)
        assert caught.value.extras == {"reason": "idle"}

    asyncio.run(scenario())


def test_a_stream_is_not_idle_while_it_computes(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        streams.gate.close()
        sending = asyncio.create_task(stream.send(0, ONE_EVENT))
        await asyncio.sleep(0.02)
        streams.now[0] = 1000
        streams.table.expire()
        streams.gate.open()
        await sending
        streams.table.expire()
        assert streams.table.streams() == [stream]

    asyncio.run(scenario())


def test_the_table_looks_for_idle_streams_by_itself(repository: Any) -> None:
    async def scenario(streams: Streams) -> None:
        streams.table.start()
        streams.table.open("fading", None, FROM_ZERO)
        streams.now[0] = 1
        for _ in range(200):
            await asyncio.sleep(0.005)
            if not streams.table.streams():
                break
        assert not streams.table.streams()
        streams.table.close()

    with streams_of(repository, replace(LIMITS, idle_s=0.02)) as streams:
        asyncio.run(scenario(streams))


def test_what_is_asked_for_has_to_fit_the_model(streams: Streams) -> None:
    streams.table.open("fading", None, StreamOptions(sensor=(32, 48)))
    with pytest.raises(WrongSensor, match=r"48 x 32 pixels .*, not 32 x 48"):
        streams.table.open("fading", None, StreamOptions(sensor=(48, 32)))
    add_tiny_version(streams.repository, "pictures")
    streams.plane.watcher.scan()
    with pytest.raises(WrongTask, match="pictures is a detection model"):
        streams.table.open("pictures", None, FROM_ZERO)
    with streams.plane.registry.lease("fading") as loaded:
        with pytest.raises(WrongTask, match="fading is a stream_detection model"):
            expect(loaded.task, DetectionTask, loaded.name)
        with pytest.raises(WrongTask, match="POST /v1/models/fading/streams"):
            loaded.task.picture_tensors(b"", {})


def test_nothing_is_held_where_opening_fails(streams: Streams) -> None:
    with pytest.raises(WrongSensor):
        streams.table.open("fading", None, StreamOptions(sensor=(1, 1)))
    with streams.plane.registry.lease("fading") as loaded:
        assert loaded.users == 1


def test_an_iou_threshold_is_refused_where_suppression_is_in_the_graph(
    streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    with streams.plane.registry.lease("fading") as loaded:
        manifest = loaded.manifest.model_copy(update={"end_to_end": True})
        monkeypatch.setattr(loaded, "task", StreamDetectionTask(manifest, max_pixels=1, jpeg_quality=90))
        with pytest.raises(FixedSuppression):
            streams.table.open("fading", None, StreamOptions(overrides=Overrides(iou_threshold=0.4)))


def test_a_stream_stays_on_its_version_when_another_becomes_live(streams: Streams) -> None:
    async def scenario() -> None:
        old = streams.table.open("fading", None, FROM_ZERO)
        await old.send(0, ONE_EVENT)
        add_tiny_stream_version(streams.repository, model=TinyStreamModel(score_scale=0.5))
        await asyncio.to_thread(streams.plane.watcher.scan)
        new = streams.table.open("fading", None, FROM_ZERO)
        assert (old.loaded.version, new.loaded.version) == (1, 2)
        answers = [await old.send(1, silence(100_000)), await new.send(0, ONE_EVENT)]
        assert [answer.windows[0].detections.scores.tolist() for answer in answers] == [
            [pytest.approx(1 / 3)],
            [pytest.approx(1 / 4)],
        ]
        assert streams.plane.registry.retired() == {("fading", 1)}
        streams.table.end(old.id, "client")
        await asyncio.to_thread(streams.plane.watcher.scan)
        assert streams.plane.registry.retired() == set()
        assert streams.metric("streams_open", model="fading", version="1") is None
        assert streams.metric("streams_open", model="fading", version="2") == 1

    asyncio.run(scenario())


def test_unloading_a_model_ends_its_streams_at_once(streams: Streams) -> None:
    async def scenario() -> None:
        streams.table.start()
        idle, busy = (streams.table.open("fading", None, FROM_ZERO) for _ in range(2))
        streams.gate.close()
        sending = asyncio.create_task(busy.send(0, ONE_EVENT))
        await asyncio.sleep(0.02)
        unloading = asyncio.create_task(asyncio.to_thread(streams.plane.control.unload, "fading"))
        with pytest.raises(StreamGone, match="its model was unloaded"):
            await sending
        streams.gate.open()
        await asyncio.wait_for(unloading, 5)
        with pytest.raises(StreamGone) as caught:
            streams.table.get(idle.id)
        assert caught.value.extras == {"reason": "unloaded"}
        with pytest.raises(ModelNotReady):
            streams.table.open("fading", None, FROM_ZERO)
        assert streams.metric("streams_open", model="fading", version="1") is None
        ended = {"model": "fading", "version": "1", "reason": "unloaded"}
        assert streams.metric("streams_ended_total", **ended) == 2
        streams.table.close()

    asyncio.run(scenario())


def test_a_model_that_leaves_the_repository_takes_its_streams_along(streams: Streams) -> None:
    async def scenario() -> None:
        streams.table.start()
        stream = streams.table.open("fading", None, FROM_ZERO)
        shutil.rmtree(streams.repository.root / "fading")
        await asyncio.to_thread(streams.plane.watcher.scan)
        with pytest.raises(StreamGone, match="its model was unloaded"):
            await stream.send(0, ONE_EVENT)
        assert stream.loaded.users == 0
        streams.table.close()

    asyncio.run(scenario())


def test_a_closed_table_has_ended_everything_and_opens_nothing(streams: Streams) -> None:
    async def scenario() -> None:
        streams.table.start()
        stream = streams.table.open("fading", None, FROM_ZERO)
        streams.table.close()
        with pytest.raises(StreamGone, match="the server is stopping"):
            streams.table.get(stream.id)
        with pytest.raises(Draining):
            streams.table.open("fading", None, FROM_ZERO)

    asyncio.run(scenario())


def test_streams_and_windows_are_counted(streams: Streams) -> None:
    async def scenario() -> None:
        stream = streams.table.open("fading", None, FROM_ZERO)
        await stream.send(0, ONE_EVENT)
        await stream.send(0, ONE_EVENT)
        await stream.send(1, silence(150_000))
        of = {"model": "fading", "version": "1"}
        assert streams.metric("streams_open", **of) == 1
        assert streams.metric("streams_opened_total", **of) == 1
        assert streams.metric("stream_windows_total", **of) == 3
        assert streams.metric("requests_total", **of, outcome="ok") == 3
        streams.table.end(stream.id, "client")
        assert streams.metric("streams_open", **of) == 0
        assert streams.metric("streams_ended_total", **of, reason="client") == 1

    asyncio.run(scenario())
