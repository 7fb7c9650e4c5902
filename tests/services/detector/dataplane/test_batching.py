"""The queue and its threads, with a run that only records what it was given."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from services.detector.dataplane.batching import Batcher, BatchPolicy, Ticket
from services.detector.dataplane.problems import Draining, InferenceFailed, QueueDeadlineExceeded
from services.detector.dataplane.session import Tensors
from services.detector.metrics import DetectorMetrics
from shared.core.problems import QueueFull


@dataclass
class Rows:
    """Work of a few rows that all hold one number; its answer is what the graph made of them."""

    number: float
    rows: int = 1
    broken: bool = False

    def prepare(self) -> Tensors:
        if self.broken:
            raise ValueError("broken")
        return {"x": np.full((self.rows, 2), self.number)}

    def finish(self, outputs: Tensors) -> list[float]:
        values: list[float] = outputs["y"][:, 0].tolist()
        return values


@dataclass
class Recorder:
    """A run that doubles its input once `gate` is open, and remembers the sizes of its batches."""

    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    sizes: list[int] = field(default_factory=list)

    def __call__(self, inputs: Tensors) -> Tensors:
        self.sizes.append(len(inputs["x"]))
        self.entered.release()
        assert self.gate.wait(10)
        return {"y": inputs["x"] * 2}


def batcher(run: Callable[[Tensors], Tensors], **policy: Any) -> Batcher:
    metrics = DetectorMetrics(CollectorRegistry()).of_version("m", 1)
    return Batcher("m version 1", run, BatchPolicy(**policy), metrics)


def value(ticket: Ticket[Any]) -> Any:
    return ticket.future.result(10)[0]


def hold_one(queue: Batcher, run: Recorder) -> Ticket[Any]:
    """Keep the only thread busy with one piece of work, so that what follows has to wait."""
    (ticket,) = queue.submit([Rows(0)], wait_s=10)
    assert run.entered.acquire(timeout=10)
    return ticket


def test_each_piece_of_work_gets_its_own_rows_back() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=4)
    hold_one(queue, run)
    tickets = queue.submit([Rows(1), Rows(2, rows=3), Rows(3)], wait_s=10)
    run.gate.set()
    assert [value(ticket) for ticket in tickets] == [[2.0], [4.0, 4.0, 4.0], [6.0]]
    assert run.sizes == [1, 5]
    assert queue.close(10)


def test_a_batch_never_holds_more_than_the_maximum() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=3)
    hold_one(queue, run)
    tickets = queue.submit([Rows(number) for number in range(7)], wait_s=10)
    run.gate.set()
    assert [value(ticket) for ticket in tickets] == [[2.0 * number] for number in range(7)]
    assert run.sizes == [1, 3, 3, 1]
    assert queue.close(10)


def test_a_lone_picture_leaves_after_the_delay_and_not_before() -> None:
    run = Recorder()
    run.gate.set()
    queue = batcher(run, max_batch=8, max_delay_s=0.1)
    started = time.monotonic()
    (ticket,) = queue.submit([Rows(1)], wait_s=10)
    assert value(ticket) == [2.0]
    assert 0.1 <= time.monotonic() - started < 5
    assert queue.close(10)


def test_pictures_that_come_within_the_delay_share_a_batch_even_with_idle_threads() -> None:
    run = Recorder()
    run.gate.set()
    queue = batcher(run, max_batch=4, max_delay_s=5.0, instances=3)
    tickets = []
    for number in range(4):  # the fourth fills the batch; nobody waits for five seconds
        tickets += queue.submit([Rows(number)], wait_s=10)
        time.sleep(0.02)
    assert [value(ticket) for ticket in tickets] == [[0.0], [2.0], [4.0], [6.0]]
    assert run.sizes == [4]
    assert queue.close(10)


def test_work_that_fails_to_prepare_fails_alone() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=4)
    hold_one(queue, run)
    good, bad, other = queue.submit([Rows(1), Rows(2, broken=True), Rows(3)], wait_s=10)
    run.gate.set()
    assert (value(good), value(other)) == ([2.0], [6.0])
    with pytest.raises(InferenceFailed):  # what it raised is no answer for a caller
        value(bad)
    assert queue.close(10)


def test_a_failing_run_is_every_callers_problem_and_the_thread_goes_on() -> None:
    calls = 0

    def run(inputs: Tensors) -> Tensors:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("out of memory")
        return {"y": inputs["x"]}

    queue = batcher(run)
    (first,) = queue.submit([Rows(1)], wait_s=10)
    with pytest.raises(InferenceFailed):
        value(first)
    (second,) = queue.submit([Rows(1)], wait_s=10)
    assert value(second) == [1.0]
    assert queue.close(10)


def test_a_full_queue_refuses_all_or_nothing() -> None:
    run = Recorder()
    queue = batcher(run, queue_size=3)
    hold_one(queue, run)
    queue.submit([Rows(1), Rows(2)], wait_s=10)
    with pytest.raises(QueueFull) as refusal:
        queue.submit([Rows(3), Rows(4)], wait_s=10)
    assert refusal.value.headers["Retry-After"] == "1"
    assert queue.depth == 2
    queue.submit([Rows(3)], wait_s=10)
    run.gate.set()
    assert queue.close(10)


def test_work_past_its_deadline_is_answered_and_never_run() -> None:
    run = Recorder()
    queue = batcher(run)
    hold_one(queue, run)
    (late,) = queue.submit([Rows(1)], wait_s=0.01)
    (patient,) = queue.submit([Rows(2)], wait_s=10)
    time.sleep(0.02)
    run.gate.set()
    with pytest.raises(QueueDeadlineExceeded):
        value(late)
    assert value(patient) == [4.0]
    assert run.sizes == [1, 1]
    assert queue.close(10)


def test_dropped_work_leaves_its_place_and_is_never_run() -> None:
    run = Recorder()
    queue = batcher(run, queue_size=1)
    held = hold_one(queue, run)
    (waiting,) = queue.submit([Rows(1)], wait_s=10)
    assert queue.drop(waiting, "client_gone")
    assert not queue.drop(waiting, "client_gone")
    assert not queue.drop(held, "client_gone")  # it is being computed
    (after,) = queue.submit([Rows(2)], wait_s=10)
    run.gate.set()
    assert value(after) == [4.0]
    assert run.sizes == [1, 1]
    assert queue.close(10)


def test_closing_finishes_what_is_queued_and_refuses_what_comes_later() -> None:
    run = Recorder()
    queue = batcher(run)
    held = hold_one(queue, run)
    tickets = queue.submit([Rows(1), Rows(2)], wait_s=10)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(queue.close, 10)
        time.sleep(0.02)
        with pytest.raises(Draining):
            queue.submit([Rows(3)], wait_s=10)
        run.gate.set()
        assert closing.result(10)
    assert [value(ticket) for ticket in (held, *tickets)] == [[0.0], [2.0], [4.0]]


def test_closing_is_bounded_and_answers_what_it_leaves_behind() -> None:
    run = Recorder()
    queue = batcher(run)
    hold_one(queue, run)
    (waiting,) = queue.submit([Rows(1)], wait_s=10)
    assert not queue.close(0.02)
    with pytest.raises(Draining):
        value(waiting)
    run.gate.set()
