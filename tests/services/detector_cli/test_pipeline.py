"""Stages side by side: order, bounds and what happens to errors."""

import random
import threading
import time
from collections.abc import Iterator

import pytest

from services.detector.cli.pipeline import batches, map_in_order, read_ahead


def test_read_ahead_gives_the_same_items_in_the_same_order():
    assert list(read_ahead(iter(range(100)), depth=3)) == list(range(100))


def test_read_ahead_stays_within_its_depth():
    produced = 0

    def items() -> Iterator[int]:
        nonlocal produced
        for number in range(50):
            produced += 1
            yield number

    ahead = read_ahead(items(), depth=4)
    for consumed in range(1, 11):
        next(ahead)
        time.sleep(0.005)
        # In the queue 4, one in the hand of the thread that waits to put it there.
        assert produced <= consumed + 4 + 1
    ahead.close()


def test_read_ahead_raises_what_the_source_raises_after_the_items_before_it():
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise RuntimeError("the disk is gone")

    ahead = read_ahead(items(), depth=10)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(RuntimeError, match="the disk is gone"):
        next(ahead)


def test_closing_read_ahead_ends_its_thread_and_closes_the_source():
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    before = threading.active_count()
    ahead = read_ahead(items(), depth=2)
    next(ahead)
    ahead.close()
    assert closed.wait(5)
    assert threading.active_count() == before


def test_a_source_that_hangs_ends_in_a_timeout():
    released = threading.Event()

    def items() -> Iterator[int]:
        released.wait(10)
        yield 0

    ahead = read_ahead(items(), depth=1, deadline_s=0.1)
    threading.Timer(0.3, released.set).start()
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        next(ahead)


def test_map_in_order_keeps_the_order_whatever_finishes_first():
    random.seed(0)

    def slow_square(number: int) -> int:
        time.sleep(random.uniform(0, 0.01))
        return number * number

    mapped = list(map_in_order(slow_square, range(40), workers=4, window=8))
    assert mapped == [(number, number * number) for number in range(40)]


def test_map_in_order_takes_no_more_than_its_window():
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(30):
            taken += 1
            yield number

    given = 0
    for _ in map_in_order(lambda number: number, items(), workers=2, window=5):
        given += 1
        assert taken <= given + 5
    assert given == 30


def test_map_in_order_uses_its_workers_at_the_same_time():
    together = threading.Barrier(3, timeout=5)
    assert len(list(map_in_order(lambda _: together.wait(), range(3), workers=3, window=3))) == 3


def test_an_error_comes_at_the_turn_of_its_item():
    def fail_at_two(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    mapped = map_in_order(fail_at_two, range(5), workers=2, window=4)
    assert [next(mapped), next(mapped)] == [(0, 0), (1, 1)]
    with pytest.raises(ValueError, match="two"):
        next(mapped)


def test_batches_end_with_what_is_left():
    assert list(batches(range(7), 3)) == [[0, 1, 2], [3, 4, 5], [6]]
