"""Cutting events into windows while they come in."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.detector.dataplane.streams.problems import TooManyEvents, TooManyWindows, WrongChunk
from services.detector.dataplane.streams.windows import EventWindows, WindowLimits
from shared.vision.events import Events
from tests.services.detector.streams.recordings import cuts, events_at, random_events

LIMITS = WindowLimits(windows=20, events=1000)


def times(*t: int) -> Events:
    return events_at(*((time, 1, 2, 1) for time in t))


def windows(start_us: int | None = 0, limits: WindowLimits = LIMITS) -> EventWindows:
    return EventWindows(10, limits, start_us=start_us)


def test_a_window_is_complete_once_an_event_later_than_its_end_came() -> None:
    at_the_end, complete = windows().take(times(0, 3, 10, 10))
    assert complete == []
    _, complete = at_the_end.take(times(10, 11))
    (first,) = complete
    assert (first.index, first.start_us, first.end_us) == (0, 0, 10)
    assert first.events.t.tolist() == [0, 3, 10, 10, 10]


def test_events_at_the_edge_belong_to_both_windows() -> None:
    _, complete = windows().take(times(10, 20, 31))
    assert [window.events.t.tolist() for window in complete] == [[10], [10, 20], [20]]


def test_windows_without_events_are_complete_too() -> None:
    _, complete = windows().take(times(5, 45))
    assert [(window.index, len(window.events)) for window in complete] == [(0, 1), (1, 0), (2, 0), (3, 0)]


def test_without_a_start_the_first_event_is_the_start() -> None:
    stands, complete = windows(start_us=None).take(times(1007, 1018))
    assert stands.start_us == 1007
    assert [(window.start_us, window.end_us) for window in complete] == [(1007, 1017)]


def test_the_sender_may_say_that_a_time_is_over() -> None:
    stands, complete = windows().take(times(3), until_us=20)
    assert [window.events.t.tolist() for window in complete] == [[3], []]
    with pytest.raises(WrongChunk, match="event 0 is at 20 us, and until_us=20"):
        stands.take(times(20))
    assert len(stands.take(times(21), until_us=30)[1]) == 1


def test_a_time_that_is_over_cannot_lie_before_what_came() -> None:
    with pytest.raises(WrongChunk, match="until_us=8 has to be a time from 9"):
        windows().take(times(9), until_us=8)
    with pytest.raises(WrongChunk, match="before the first event"):
        windows(start_us=None).take(Events.empty(), until_us=8)


@pytest.mark.parametrize(
    ("events", "index", "text"),
    [
        (times(5, 4), 1, "event 1 is at 4 us, before event 0 at 5 us"),
        (times(4), 0, "before the last event of the stream at 5 us"),
        (times(2**62 + 1), 0, "times go from 0"),
        (times(2**63 - 1, -(2**63)), 1, "before event 0"),
    ],
)
def test_time_that_goes_backwards_is_refused_with_its_place(events: Events, index: int, text: str) -> None:
    stands, _ = windows().take(times(5))
    with pytest.raises(WrongChunk, match=text) as caught:
        stands.take(events)
    assert caught.value.extras == {"index": index}


def test_an_event_before_the_start_is_refused() -> None:
    with pytest.raises(WrongChunk, match="before the stream's start at 100 us"):
        windows(start_us=100).take(times(99))


def test_a_chunk_completes_so_many_windows_at_most() -> None:
    assert len(windows().take(times(0, 201))[1]) == 20
    with pytest.raises(TooManyWindows, match="completes 21 windows"):
        windows().take(times(0, 211))
    with pytest.raises(TooManyWindows):
        windows().take(times(0), until_us=2**62)


def test_a_long_silence_is_passed_in_the_steps_that_the_refusal_names() -> None:
    stands, _ = windows(start_us=7).take(times(7, 40))
    steps = 0
    while True:
        try:
            stands, _ = stands.take(times(1000))
            break
        except TooManyWindows as refusal:
            (until_us,) = re.findall(r"until_us=(\d+) at most", refusal.detail)
            stands, silent = stands.take(Events.empty(), int(until_us))
            assert len(silent) == 20
            steps += 1
    assert steps == 4  # windows 3 to 82 of the 99 that end before 1000
    assert stands.completed == 99


def test_a_start_on_another_clock_is_asked_about() -> None:
    unix_us = 1_790_000_000_000_000
    with pytest.raises(TooManyWindows, match="start_us=0: is that the clock of the events"):
        windows().take(times(unix_us))
    stands, _ = windows().take(times(0))
    with pytest.raises(TooManyWindows) as refusal:
        stands.take(times(unix_us))
    assert "start_us" not in refusal.value.detail


def test_a_window_has_so_many_events_at_most_wherever_they_are_cut() -> None:
    few = windows(limits=WindowLimits(windows=20, events=3))
    stands, _ = few.take(times(1, 2, 3))
    for limited, events in ((few, times(1, 2, 3, 4)), (stands, times(4)), (stands, times(4, 100))):
        with pytest.raises(TooManyEvents, match="window 0 has 4 events"):
            limited.take(events)
    assert len(stands.take(times(11, 12, 13))[1]) == 1


def test_taking_leaves_the_old_standing_as_it_was() -> None:
    stands, _ = windows().take(times(1, 2))
    stands.take(times(3, 200))
    assert (stands.completed, stands.pending.t.tolist(), stands.last_us) == (0, [1, 2], 2)


@given(st.lists(st.integers(0, 400), max_size=12), st.integers(0, 2**16))
def test_cutting_anywhere_gives_the_same_windows(places: list[int], seed: int) -> None:
    events = random_events(seed)
    whole = EventWindows(50_000, LIMITS, start_us=0)
    _, expected = whole.take(events, until_us=600_000)
    stands, got = whole, []
    for part in cuts(events, places):
        stands, complete = stands.take(part)
        got += complete
    stands, complete = stands.take(Events.empty(), until_us=600_000)
    got += complete
    assert [window.index for window in got] == list(range(12))
    for one, other in zip(got, expected, strict=True):
        for name in ("t", "x", "y", "p"):
            np.testing.assert_array_equal(getattr(one.events, name), getattr(other.events, name))
