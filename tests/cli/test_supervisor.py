import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from shared.cli.stack import ProcessSpec
from shared.cli.supervisor import StartFailed, Supervisor

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def spec(command: list[str], name: str = "p", stop_after_s: float = 5.0) -> ProcessSpec:
    return ProcessSpec(name, command, "", health_path=None, stop_after_s=stop_after_s)


def test_what_ends_while_starting_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; print('no such database'); time.sleep(0.2); exit(3)"]
    failing = ProcessSpec("p", command, "http://127.0.0.1:1")
    with (
        Supervisor(tmp_path) as supervisor,
        pytest.raises(StartFailed, match=r"(?s)status 3.*no such database"),
    ):
        supervisor.start(failing, within_s=10)


def test_what_never_answers_is_given_up(tmp_path: Path) -> None:
    silent = ProcessSpec("p", SLEEPER, "http://127.0.0.1:1")
    with Supervisor(tmp_path) as supervisor, pytest.raises(StartFailed, match="did not answer"):
        supervisor.start(silent, within_s=0.5)


def test_what_falls_over_is_started_again(tmp_path: Path) -> None:
    stop = threading.Event()
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(spec(SLEEPER), within_s=5)
        first = supervisor.pids["p"]
        watcher = threading.Thread(target=lambda: supervisor.watch(stop.is_set, every_s=0.05))
        watcher.start()
        psutil.Process(first).kill()
        deadline = time.monotonic() + 10
        while supervisor.pids["p"] == first and time.monotonic() < deadline:
            time.sleep(0.05)
        second = supervisor.pids["p"]
        stop.set()
        watcher.join()
        assert second != first
        assert psutil.pid_exists(second)
    assert not psutil.pid_exists(second)


def test_what_outstays_its_time_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True); time.sleep(60)"
    )
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(spec([sys.executable, "-c", stubborn], stop_after_s=0.3), within_s=5)
        pid = supervisor.pids["p"]
        while not (tmp_path / "p.log").read_text():
            time.sleep(0.02)
    assert not psutil.pid_exists(pid)


def test_an_address_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken, Supervisor(tmp_path) as supervisor:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartFailed, match="already answers"):
            supervisor.start(ProcessSpec("p", SLEEPER, url), within_s=1)
        assert supervisor.pids == {}
