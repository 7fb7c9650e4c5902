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

from services.detector.dataplane.batching import Batcher, BatchPolicy
from services.detector.dataplane.in_flight import InFlight
from services.detector.dataplane.problems import Draining, InferenceFailed, QueueDeadlineExceeded, TooManyRows
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.work import Ticket
from services.detector.metrics import DetectorMetrics
from shared.core.problems import QueueFull


@dataclass
class Rows:
    """Work of a few rows that all hold one number; its answer is what the graph made of them."""

    number: float
    rows: int = 1
    broken: bool = False
    width: int = 2
    brought: int | None = None  # rows; None: as many as announced

    def prepare(self) -> Tensors:
        if self.broken:
            raise ValueError("broken")
        return {"x": np.full((self.rows if self.brought is None else self.brought, self.width), self.number)}

    def finish(self, outputs: Tensors) -> list[float]:
        values: list[float] = outputs["y"][:, 0].tolist()
        return values


@dataclass
class Counted(Rows):
    """Work whose rows hold 0, 1, 2, …"""

    def __init__(self, rows: int) -> None:
        super().__init__(0, rows)

    def prepare(self) -> Tensors:
        return {"x": np.arange(self.rows, dtype=np.float64)[:, None]}


@dataclass
class Told(Rows):
    """Work that writes down when it is prepared."""

    def __init__(self, number: float, order: list[float]) -> None:
        super().__init__(number)
        self._order = order

    def prepare(self) -> Tensors:
        self._order.append(self.number)
        return super().prepare()


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
    queue = batcher(run, max_batch=5)
    hold_one(queue, run)
    tickets = queue.submit([Rows(1), Rows(2, rows=3), Rows(3)], wait_s=10)
    run.gate.set()
    assert [value(ticket) for ticket in tickets] == [[2.0], [4.0, 4.0, 4.0], [6.0]]
    assert run.sizes == [1, 5]
    assert queue.close(10)


def test_a_batch_is_filled_in_order_while_rows_fit_and_nothing_is_split_or_overtaken() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=4)
    hold_one(queue, run)
    works = [Rows(1, rows=3), Rows(2, rows=2), Rows(3), Rows(4, rows=4), Rows(5)]
    tickets = queue.submit(works, wait_s=10)
    assert queue.depth == 11
    run.gate.set()
    assert [value(ticket) for ticket in tickets] == [[2.0 * w.number] * w.rows for w in works]
    assert run.sizes == [1, 3, 3, 4, 1]
    assert queue.close(10)


def test_work_of_more_rows_than_a_run_takes_is_run_in_parts() -> None:
    run = Recorder()
    run.gate.set()
    queue = batcher(run, max_batch=2, max_rows=5)
    (ticket,) = queue.submit([Counted(5)], wait_s=10)
    assert value(ticket) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert run.sizes == [2, 2, 1]
    snapshot = queue.statistics.snapshot()
    assert (snapshot.inference_count, snapshot.execution_count, snapshot.success.count) == (5, 3, 1)
    assert {size: one.compute_infer.count for size, one in snapshot.batch_stats.items()} == {1: 1, 2: 2}
    assert queue.close(10)


def test_work_of_more_rows_than_the_model_takes_is_refused_and_nothing_queued() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=2, max_rows=5)
    with pytest.raises(TooManyRows, match=r"6 rows .* is 5"):
        queue.submit([Rows(1), Rows(2, rows=6)], wait_s=10)
    assert queue.depth == 0
    assert queue.close(10)


def test_what_differs_in_a_free_dimension_is_run_apart() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=4)
    hold_one(queue, run)
    tickets = queue.submit([Rows(1), Rows(2, width=3), Rows(3)], wait_s=10)
    run.gate.set()
    assert [value(ticket) for ticket in tickets] == [[2.0], [4.0], [6.0]]
    assert sorted(run.sizes) == [1, 1, 2]
    assert queue.close(10)


def test_work_that_brings_other_rows_than_it_announced_fails_alone() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=4)
    hold_one(queue, run)
    good, bad = queue.submit([Rows(1), Rows(2, rows=1, brought=2)], wait_s=10)
    run.gate.set()
    assert value(good) == [2.0]
    with pytest.raises(InferenceFailed):
        value(bad)
    assert queue.close(10)


def test_a_higher_priority_is_taken_first_and_equals_in_their_order() -> None:
    run = Recorder()
    order: list[float] = []
    queue = batcher(run)
    hold_one(queue, run)
    tickets = []
    for number, priority in enumerate([0, 11, 1, 0, 9, 1, 10, 2**63]):
        tickets += queue.submit([Told(number, order)], wait_s=10, priority=priority)
    run.gate.set()
    for ticket in tickets:
        value(ticket)
    assert order == [2, 5, 4, 0, 3, 6, 1, 7]
    assert queue.close(10)


def test_only_work_that_is_alone_in_the_process_has_the_wide_run() -> None:
    in_flight, ran = InFlight(), []
    gate, entered = threading.Event(), threading.Semaphore(0)

    def recorded(kind: str) -> Callable[[Tensors], Tensors]:
        def run(inputs: Tensors) -> Tensors:
            ran.append(kind)
            entered.release()
            assert gate.wait(10)
            return {"y": inputs["x"] * 2}

        return run

    metrics = DetectorMetrics(CollectorRegistry()).of_version("m", 1)
    one, other = (
        Batcher(
            "m", recorded("narrow"), BatchPolicy(), metrics, run_alone=recorded("wide"), in_flight=in_flight
        )
        for _ in range(2)
    )
    tickets = one.submit([Rows(1)], wait_s=10)
    assert entered.acquire(timeout=10)
    tickets += other.submit([Rows(2)], wait_s=10)  # another version's work counts as company
    assert entered.acquire(timeout=10)
    gate.set()
    assert [value(ticket) for ticket in tickets] == [[2.0], [4.0]]
    assert [value(ticket) for ticket in one.submit([Rows(3)], wait_s=10)] == [[6.0]]
    assert ran == ["wide", "narrow", "wide"]
    tickets = one.submit([Rows(4), Rows(5)], wait_s=10)
    assert [value(ticket) for ticket in tickets] == [[8.0], [10.0]]
    assert ran[3:] == ["narrow", "wide"]  # the second one had the process to itself again
    assert in_flight.count == 0
    assert one.close(10)
    assert other.close(10)


def test_whatever_becomes_of_work_it_is_counted_once() -> None:
    run, in_flight = Recorder(), InFlight()
    metrics = DetectorMetrics(CollectorRegistry()).of_version("m", 1)
    queue = Batcher("m", run, BatchPolicy(queue_size=4), metrics, in_flight=in_flight)
    answered = hold_one(queue, run)
    (gone,) = queue.submit([Rows(1)], wait_s=10)
    (late,) = queue.submit([Rows(2)], wait_s=0)
    (broken,) = queue.submit([Rows(3, broken=True)], wait_s=10)
    with pytest.raises(QueueFull):
        queue.submit([Rows(4), Rows(5)], wait_s=10)
    assert queue.drop(gone, "client_gone")
    run.gate.set()
    value(answered)
    for ticket in (late, broken):
        with pytest.raises((QueueDeadlineExceeded, InferenceFailed)):
            value(ticket)
    assert queue.close(10)
    snapshot = queue.statistics.snapshot()
    assert (snapshot.success.count, snapshot.fail.count, snapshot.cancel.count) == (1, 3, 1)
    assert (snapshot.inference_count, snapshot.execution_count) == (1, 1)
    assert snapshot.success.ns >= snapshot.queue.ns + snapshot.compute_infer.ns > 0
    assert abs(snapshot.last_inference_ms / 1000 - time.time()) < 60
    assert in_flight.count == 0


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


def test_those_that_come_first_by_priority_do_not_lengthen_the_delay_of_who_waits() -> None:
    run = Recorder()
    run.gate.set()
    queue = batcher(run, max_batch=50, max_delay_s=0.3)
    started = time.monotonic()
    (usual,) = queue.submit([Rows(1)], wait_s=10)
    while not usual.future.done() and time.monotonic() - started < 2:
        queue.submit([Rows(2)], wait_s=10, priority=1)
        time.sleep(0.1)
    assert value(usual) == [2.0]
    assert time.monotonic() - started < 1
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


def test_what_would_wait_longer_than_a_queue_may_take_is_refused_by_the_measured_pace() -> None:
    def run(inputs: Tensors) -> Tensors:
        time.sleep(0.05)
        gate.wait(10)
        return {"y": inputs["x"]}

    gate = threading.Event()
    gate.set()
    queue = batcher(run, queue_s=0.12, queue_size=100)
    for ticket in queue.submit([Rows(1)] * 6, wait_s=10):  # a twentieth of a second each
        value(ticket)
    gate.clear()
    tickets: list[Ticket[Any]] = []

    def fill() -> None:
        for number in range(20):
            tickets.extend(queue.submit([Rows(number)], wait_s=10))

    with pytest.raises(QueueFull, match=r"take 0\.\d+ s, more than the 0\.12 s") as refusal:
        fill()
    assert 2 <= len(tickets) <= 5  # one computing and at most three waiting, with room for a slow machine
    assert refusal.value.headers["Retry-After"] == "1"
    gate.set()
    assert len([value(ticket) for ticket in tickets]) == len(tickets)
    assert queue.close(10)


def test_a_slow_first_run_and_one_slow_picture_later_refuse_nobody() -> None:
    def run(inputs: Tensors) -> Tensors:
        time.sleep(0.3 if inputs["x"][0, 0] else 0.0)
        return {"y": inputs["x"]}

    queue = batcher(run, queue_s=0.1, queue_size=100)
    value(queue.submit([Rows(1)], wait_s=10)[0])  # cold
    for _ in range(20):  # by a pace of 0.3 s each, the second of them would wait too long
        for ticket in [queue.submit([Rows(0)], wait_s=10)[0] for _ in range(4)]:
            value(ticket)
    value(queue.submit([Rows(1)], wait_s=10)[0])
    for ticket in [queue.submit([Rows(0)], wait_s=10)[0] for _ in range(20)]:
        value(ticket)
    assert queue.close(10)


def test_several_pictures_in_one_request_fit_a_queue_where_nothing_waits() -> None:
    run = Recorder()
    queue = batcher(run, queue_size=2, queue_s=0.001)
    run.gate.set()
    for _ in range(6):  # the pace is known and slow from the second round on
        tickets = queue.submit([Rows(number) for number in range(4)], wait_s=10)
        assert [value(ticket) for ticket in tickets] == [[0.0], [2.0], [4.0], [6.0]]
    assert queue.close(10)


def test_retry_after_is_what_emptying_the_queue_should_take() -> None:
    def run(inputs: Tensors) -> Tensors:
        time.sleep(0.1)
        gate.wait(10)
        return {"y": inputs["x"]}

    gate = threading.Event()
    gate.set()
    queue = batcher(run, queue_size=30)
    value(queue.submit([Rows(1)], wait_s=10)[0])
    gate.clear()
    queue.submit([Rows(1)] * 15, wait_s=10)
    queue.submit([Rows(1)] * 15, wait_s=10)
    with pytest.raises(QueueFull) as refusal:
        queue.submit([Rows(1)] * 2, wait_s=10)
    assert 3 <= int(refusal.value.headers["Retry-After"]) <= 6  # 29 or 30 of a tenth of a second or more
    gate.set()
    assert not queue.close(0)  # dropped, not waited for


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


def test_work_in_parts_stops_once_its_client_has_gone() -> None:
    run = Recorder()
    queue = batcher(run, max_batch=1, max_rows=5)
    (ticket,) = queue.submit([Rows(1, rows=5)], wait_s=10)
    assert run.entered.acquire(timeout=10)
    assert not queue.drop(ticket, "client_gone")  # its first part is being computed
    run.gate.set()
    assert queue.close(10)
    assert run.sizes == [1]
    assert queue.statistics.snapshot().cancel.count == 1


def test_dropped_rows_make_room_again() -> None:
    run = Recorder()
    queue = batcher(run, queue_size=4, max_batch=4)
    hold_one(queue, run)
    (large,) = queue.submit([Rows(1, rows=4)], wait_s=10)
    with pytest.raises(QueueFull):
        queue.submit([Rows(2)], wait_s=10)
    assert queue.drop(large, "deadline")
    (after,) = queue.submit([Rows(3, rows=4)], wait_s=10)
    run.gate.set()
    assert value(after) == [6.0] * 4
    assert queue.close(10)
