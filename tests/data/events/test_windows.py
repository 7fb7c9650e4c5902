from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shared.data.events.windows import windows
from shared.vision.events import Events


def at(times: list[int]) -> Events:
    t = np.array(times, np.int64)
    number = np.arange(len(t))
    return Events(t, number.astype(np.uint16), np.zeros(len(t), np.uint16), np.zeros(len(t), np.uint8))


def test_both_edges_belong_to_a_window() -> None:
    found = list(windows([at([0, 49, 50, 50, 51, 100, 101])], np.array([50, 100, 150, 400]), 50))
    assert [part.t.tolist() for part in found] == [[0, 49, 50, 50], [50, 50, 51, 100], [100, 101], []]


@given(
    st.lists(st.integers(0, 300), max_size=60).map(sorted),
    st.lists(st.integers(1, 15), max_size=20),
    st.lists(st.integers(0, 320), max_size=12, unique=True).map(sorted),
    st.integers(1, 90),
)
def test_pieces_of_any_size_give_the_windows_of_the_whole(
    times: list[int], pieces: list[int], ends: list[int], length: int
) -> None:
    whole = at(times)
    cuts = [0, *np.cumsum(pieces).tolist(), len(times)]
    chunks = [whole[start:end] for start, end in pairwise(cuts)]
    found = list(windows(chunks, np.array(ends, np.int64), length))
    expected = [[n for n, t in enumerate(times) if end - length <= t <= end] for end in ends]
    assert [part.x.tolist() for part in found] == expected


def test_no_more_than_a_window_and_a_chunk_is_held() -> None:
    read = 0

    def chunks():
        nonlocal read
        for start in range(0, 1_000_000, 100):
            read += 1
            yield at(list(range(start, start + 100)))

    cut = windows(chunks(), np.arange(100, 1_000_000, 100), 50)
    for number, part in zip(range(1, 50), cut, strict=False):
        assert len(part) == 51
        assert read <= number + 1
