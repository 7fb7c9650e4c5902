import socket
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from shared.cli.client import api_client
from shared.cli.stack import ProcessSpec
from shared.cli.supervisor import StartFailed, Supervisor
from shared.core.settings import CommonSettings

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


def test_what_keeps_ending_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('no such table'); exit(3)"]
    with Supervisor(tmp_path, pause_s=0.01) as supervisor:
        supervisor.start(spec(command), within_s=5)
        with pytest.raises(StartFailed, match=r"(?s)keeps ending \(status 3\).*no such table"):
            supervisor.watch(lambda: False, every_s=0.01)


def test_a_pause_before_a_restart_holds_up_nothing(tmp_path: Path) -> None:
    with Supervisor(tmp_path, pause_s=3600) as supervisor:
        supervisor.start(spec([sys.executable, "-c", "exit(3)"], "first"), within_s=5)
        supervisor.start(spec(SLEEPER, "second"), within_s=5)
        looks = iter(range(100))
        supervisor.watch(lambda: next(looks) == 99, every_s=0.01)
        assert psutil.pid_exists(supervisor.pids["second"])


def test_a_start_is_left_when_it_is_to_stop(tmp_path: Path) -> None:
    silent = ProcessSpec("p", SLEEPER, "http://127.0.0.1:1")
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(silent, within_s=60, should_stop=lambda: True)
        pid = supervisor.pids["p"]
    assert not psutil.pid_exists(pid)


def test_a_proxy_in_the_environment_is_not_asked_about_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(port)]
    url = f"http://127.0.0.1:{port}"
    with Supervisor(tmp_path) as supervisor:
        supervisor.start(ProcessSpec("p", server, url, health_path="/"), within_s=20)
        with api_client(CommonSettings(), url) as client:
            assert client.get("/").is_success


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
    with socket.create_server(("127.0.0.1", 0)) as taken, Supervisor(tmp_path) as supervisor:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartFailed, match="already answers"):
            supervisor.start(ProcessSpec("p", SLEEPER, url), within_s=1)
        assert supervisor.pids == {}
