"""Two workers and one run folder."""

import threading
import time
from pathlib import Path

import pytest

from shared.jobs.problems import LeaseLost
from shared.jobs.run_lock import RunFolderHeld, hold_run_folder


def hold(root: Path, token: int, *, timeout_s: float = 0.2, lost: bool = False):  # type: ignore[no-untyped-def]
    return hold_run_folder(root, "job", token, f"w{token}", timeout_s=timeout_s, give_up=lambda: lost)


def test_a_held_folder_is_refused_with_the_name_of_its_holder(tmp_path: Path) -> None:
    with hold(tmp_path, 1), pytest.raises(RunFolderHeld, match="w1"), hold(tmp_path, 2):
        pass


def test_a_second_worker_waits_for_the_first_to_let_go(tmp_path: Path) -> None:
    entered = threading.Event()

    def first() -> None:
        with hold(tmp_path, 1):
            entered.set()
            time.sleep(0.3)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait()
    with hold(tmp_path, 2, timeout_s=10) as lock:
        lock.ensure()
    thread.join()


def test_waiting_ends_with_the_lease(tmp_path: Path) -> None:
    with hold(tmp_path, 1), pytest.raises(LeaseLost), hold(tmp_path, 2, timeout_s=10, lost=True):
        pass


def test_an_older_claim_cannot_come_after_a_newer_one(tmp_path: Path) -> None:
    with hold(tmp_path, 2):
        pass
    with pytest.raises(LeaseLost, match="claim 1"), hold(tmp_path, 1):
        pass


def test_a_holder_learns_that_another_machine_took_over(tmp_path: Path) -> None:
    """Where locks are not shared, the token in the file is what tells."""
    with hold(tmp_path, 1) as lock:
        lock.ensure()
        (tmp_path / ".locks" / "job.lock").write_text('{"token": 2, "worker": "w2", "pid": 1}')
        with pytest.raises(LeaseLost, match="w2"):
            lock.ensure()


def test_the_run_folder_itself_is_left_to_the_runner(tmp_path: Path) -> None:
    with hold(tmp_path, 1):
        assert [path.name for path in tmp_path.iterdir()] == [".locks"]
