"""What `sightline predict` asks of whatever follows a recording, window by window, here or on a server."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Protocol

import numpy as np

from services.detector.cli.detections import FoundDetections
from services.detector.dataplane.streams.windows import Window
from shared.data.events.repairs import RecordingUnreadable
from shared.data.events.windows import windows
from shared.vision.events import Events

# What is handed on at once. One window may hold more events; it is then a group of its own.
GROUP_WINDOWS, GROUP_EVENTS = 8, 250_000
# Longer than any camera is silent while it runs; a clock that jumps would make windows for ever.
MAX_SILENCE_US = 3_600_000_000


class StreamRefused(ValueError):
    """One recording that cannot be followed, in words for the user; others may go on."""


class Follower(Protocol):
    """One recording that is being followed; what was seen is remembered from window to window."""

    version: int

    def answer(self, windows: Sequence[Window]) -> list[FoundDetections]:
        """Return what is found in each of the next windows, boxes in pixels of the sensor."""


class StreamPredictor(Protocol):
    """Something that follows recordings, any number of them, one after the other.

    sensor_size: (height, width) of the recordings it takes. window_us: length of a window.
    """

    model: str
    finds: str
    sensor_size: tuple[int, int]
    window_us: int

    @property
    def source(self) -> str:
        """Where the predicting happens, for the summary."""

    def follow(self, start_us: int) -> AbstractContextManager[Follower]:
        """Begin with a recording whose first window starts at `start_us`."""

    def close(self) -> None:
        """Let go of sessions or connections."""


def first_start(first_us: int, window_us: int) -> int:
    """Return where a recording's first window starts: its length's last multiple up to the first event."""
    return first_us // window_us * window_us


def window_count(first_us: int, last_us: int, window_us: int) -> int:
    """Return how many windows `recording_windows` gives for events from `first_us` to `last_us`."""
    return max(1, -(-(last_us - first_start(first_us, window_us)) // window_us))


def recording_windows(chunks: Iterable[Events], window_us: int) -> Iterator[Window]:
    """Yield the windows of a recording from `first_start` to the one that holds the last event.

    chunks: events in order of time, none of them empty. Empty windows in between are there as well. Raises
    RecordingUnreadable where no event comes for more than an hour.
    """
    stream = iter(chunks)
    first = next(stream, None)
    if first is None:
        return
    reading = _Reading(chain([first], stream), int(first.t[0]))
    start_us = first_start(int(first.t[0]), window_us)
    ends = reading.ends(start_us, window_us)
    for index, events in enumerate(windows(reading.chunks(), ends, window_us)):
        start = start_us + index * window_us
        yield Window(index, start, start + window_us, events)


class _Reading:
    """How far a recording has been read: `last_us` is the time of its last event so far."""

    def __init__(self, chunks: Iterable[Events], first_us: int) -> None:
        self._chunks = chunks
        self._is_over = False
        self.last_us = first_us

    def chunks(self) -> Iterator[Events]:
        for chunk in self._chunks:
            silences = np.diff(chunk.t, prepend=self.last_us)
            longest = int(silences.argmax())
            if silences[longest] > MAX_SILENCE_US:
                raise RecordingUnreadable(
                    f"there is no event for {silences[longest] / 3.6e9:.1f} h before {chunk.t[longest]} us: "
                    "the clock jumped, or several recordings were joined; cut the file there"
                )
            self.last_us = int(chunk.t[-1])
            yield chunk
        self._is_over = True

    def ends(self, start_us: int, window_us: int) -> Iterator[int]:
        """Yield the ends of windows; the next is asked for once all events up to the last one were read."""
        end_us = start_us
        while not self._is_over or end_us < self.last_us or end_us == start_us:
            end_us += window_us
            yield end_us


def groups(complete: Iterable[Window]) -> Iterator[list[Window]]:
    """Yield lists of windows in order, of at most GROUP_WINDOWS and GROUP_EVENTS, but one window at least."""
    group: list[Window] = []
    events = 0
    for window in complete:
        if group and (len(group) == GROUP_WINDOWS or events + len(window.events) > GROUP_EVENTS):
            yield group
            group, events = [], 0
        group.append(window)
        events += len(window.events)
    if group:
        yield group
