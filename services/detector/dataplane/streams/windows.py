"""Cutting a stream of events into windows while it comes in.

A value, not a machine: taking events returns the next value and leaves this one as it was, so that what
failed is undone by keeping the old one. Cutting the events anywhere into chunks gives the same windows.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from services.detector.dataplane.streams.problems import TooManyEvents, TooManyWindows, WrongChunk
from shared.vision.events import Events

LATEST_US = 2**62  # room for whatever is added to a time


@dataclass(frozen=True, slots=True)
class WindowLimits:
    """Most windows that one chunk may complete, and most events in one of them."""

    windows: int
    events: int


@dataclass(frozen=True, slots=True)
class Window:
    """The events from `start_us` to `end_us`, both included; `index` counts from the stream's start."""

    index: int
    start_us: int
    end_us: int
    events: Events


@dataclass(frozen=True, slots=True)
class EventWindows:
    """Where a stream stands: window k spans start_us + k * length_us and length_us more, both edges included.

    A window is complete once an event later than its end has come, or the sender has said that its time is
    over. start_us: None until the first event sets it. pending: the events of the next window so far.
    said_us: up to here, itself included, the sender has said that nothing comes any more.
    """

    length_us: int
    limits: WindowLimits
    start_us: int | None = None
    completed: int = 0
    pending: Events = field(default_factory=Events.empty)
    last_us: int | None = None
    said_us: int | None = None

    def take(self, events: Events, until_us: int | None = None) -> tuple["EventWindows", list[Window]]:
        """Return where the stream stands after `events`, oldest first, and the windows that are complete.

        until_us: the sender's word that every event up to and including this time has been sent. Raises
        WrongChunk, TooManyWindows or TooManyEvents.
        """
        self._check_order(events, until_us)
        start_us = self.start_us
        if start_us is None:
            if not len(events):
                if until_us is not None:
                    raise WrongChunk(
                        f"until_us={until_us} says nothing before the first event has set the start of the "
                        "first window; open the stream with start_us, or send until_us with events"
                    )
                return self, []
            start_us = int(events.t[0])
        last_us = int(events.t[-1]) if len(events) else self.last_us
        over = self._completed_by(start_us, last_us, until_us)
        if over - self.completed > self.limits.windows:
            raise self._too_many(over, start_us)
        held = Events.join([part for part in (self.pending, events) if len(part)])
        windows = [self._window(start_us, index, held) for index in range(self.completed, over)]
        pending = held.between(start_us + over * self.length_us, LATEST_US)
        for index, part in [(window.index, window.events) for window in windows] + [(over, pending)]:
            if len(part) > self.limits.events:
                raise TooManyEvents(
                    f"window {index} has {len(part)} events and one may have {self.limits.events} "
                    "(SIGHTLINE_DETECTOR_STREAM_MAX_WINDOW_EVENTS); nothing of this chunk was taken",
                    limit=self.limits.events,
                )
        said_us = self.said_us if until_us is None else until_us
        moved = replace(
            self,
            start_us=start_us,
            completed=over,
            pending=_owned(pending),
            last_us=last_us,
            said_us=said_us,
        )
        return moved, windows

    def skip(self, count: int) -> tuple["EventWindows", list[tuple[int, int, int]]]:
        """Return where the stream stands `count` windows later, and index, start and end of each of them.

        For streams whose sender makes the windows; without start_us the first one starts at 0.
        """
        if count > self.limits.windows:
            raise TooManyWindows(
                f"this chunk has {count} windows and one may have {self.limits.windows}; send less at a time",
                limit=self.limits.windows,
            )
        start_us, over = self.start_us or 0, self.completed + count
        spans = [(index, *self._span(start_us, index)) for index in range(self.completed, over)]
        return replace(self, start_us=start_us, completed=over), spans

    def _completed_by(self, start_us: int, last_us: int | None, until_us: int | None) -> int:
        """Return how many windows of the stream are complete."""
        over = self.completed
        if last_us is not None:  # an event at the very end leaves the window open
            over = max(over, (last_us - start_us - 1) // self.length_us)
        if until_us is not None:
            over = max(over, (until_us - start_us) // self.length_us)
        return over

    def _too_many(self, over: int, start_us: int) -> TooManyWindows:
        most = self.limits.windows
        where = ""
        if self.start_us is not None and self.last_us is None and self.said_us is None:
            where = f"the first begins at start_us={start_us}: is that the clock of the events? If it is, "
        return TooManyWindows(
            f"this chunk completes {over - self.completed} windows of {self.length_us} us and one chunk may "
            f"complete {most}; {where}send less at a time, and pass a long silence in empty chunks, the next "
            f"with until_us={start_us + (self.completed + most) * self.length_us} at most",
            limit=most,
        )

    def _window(self, start_us: int, index: int, held: Events) -> Window:
        start, end = self._span(start_us, index)
        return Window(index, start, end, held.between(start, end))

    def _span(self, start_us: int, index: int) -> tuple[int, int]:
        start = start_us + index * self.length_us
        return start, start + self.length_us

    def _check_order(self, events: Events, until_us: int | None) -> None:
        """Raise WrongChunk where time goes backwards, before the start or into what was said to be over."""
        if len(events):
            falls = np.flatnonzero(events.t[1:] < events.t[:-1])
            if len(falls):
                index = int(falls[0]) + 1
                raise WrongChunk(
                    f"event {index} is at {events.t[index]} us, before event {index - 1} at "
                    f"{events.t[index - 1]} us; send events in order of time",
                    index=index,
                )
            first, last = int(events.t[0]), int(events.t[-1])
            if not 0 <= first <= last <= LATEST_US:
                index = 0 if first < 0 else int(np.searchsorted(events.t, LATEST_US, side="right"))
                raise WrongChunk(
                    f"event {index} is at {events.t[index]} us; times go from 0 to {LATEST_US}", index=index
                )
            if self.said_us is not None and first <= self.said_us:
                raise WrongChunk(
                    f"event 0 is at {first} us, and until_us={self.said_us} said that nothing up to there "
                    "was missing; its window may be complete",
                    index=0,
                )
            if self.last_us is not None and first < self.last_us:
                raise WrongChunk(
                    f"event 0 is at {first} us, before the last event of the stream at {self.last_us} us; "
                    "send events in order of time",
                    index=0,
                )
            if self.start_us is not None and first < self.start_us:
                raise WrongChunk(
                    f"event 0 is at {first} us, before the stream's start at {self.start_us} us", index=0
                )
        if until_us is not None:
            last_us = int(events.t[-1]) if len(events) else self.last_us
            earliest = max(time for time in (last_us, self.said_us, self.start_us, 0) if time is not None)
            if not earliest <= until_us <= LATEST_US:
                raise WrongChunk(
                    f"until_us={until_us} has to be a time from {earliest}, up to where the stream is known "
                    f"already, to {LATEST_US}"
                )


def _owned(events: Events) -> Events:
    """A copy, so that what waits for the next chunk does not hold on to the whole of this one."""
    return Events(events.t.copy(), events.x.copy(), events.y.copy(), events.p.copy())
