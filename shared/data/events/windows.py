"""Cut a stream of events into the windows that end at given times."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from shared.vision.events import Events


def windows(
    chunks: Iterable[Events], ends_us: Iterable[int] | NDArray[np.int64], length_us: int
) -> Iterator[Events]:
    """Yield for every end the events with end - length_us <= t <= end: both edges belong to the window.

    chunks: events in order of time, in pieces of any size. ends_us: rising. Keeps no more than one window
    and one chunk in memory; reads no further than the last window needs. Events spec, section 7.
    """
    stream = iter(chunks)
    held: list[Events] = []
    more = True
    for end in map(int, ends_us):
        while more and not (held and held[-1].t[-1] > end):
            chunk = next(stream, None)
            if chunk is None:
                more = False
            elif len(chunk) and chunk.t[-1] >= end - length_us:
                held.append(chunk)
        start = end - length_us
        held = [part for part in held if part.t[-1] >= start]
        yield Events.join([part.between(start, end) for part in held])
