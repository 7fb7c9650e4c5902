"""The environments of the peers, and how their servers are started; none of them has to be installed."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from services.detector.cli.bench import environments
from services.detector.cli.bench.environments import NotInstalled, install, why_not_usable
from services.detector.cli.bench.peers.catalogue import PEERS, ROOT, PeerServer
from services.detector.cli.bench.serving import ServingPlan, measure_serving
from services.detector.cli.bench.sides import peer_side
from shared.repository.repository import ModelRepository

APART = [peer for peer in PEERS.values() if peer.requirements is not None]


@pytest.fixture
def peer(tmp_path: Path) -> PeerServer:
    """A peer whose environment needs no package at all."""
    requirements = tmp_path / "nothing.txt"
    requirements.write_text("# nothing\n")
    return dataclasses.replace(PEERS["litserve"], requirements=requirements)


def test_an_environment_is_built_once_and_again_when_its_packages_change(peer: PeerServer, tmp_path: Path):
    folder = tmp_path / "environments"
    assert "sightline bench peers install litserve" in str(why_not_usable(peer, folder))
    assert install(peer, folder)
    assert why_not_usable(peer, folder) is None
    version = subprocess.run([peer.python(folder), "-c", "print(6 * 7)"], capture_output=True, text=True)
    assert version.stdout == "42\n"
    assert not install(peer, folder)
    assert peer.requirements is not None
    peer.requirements.write_text("# still nothing\n")
    assert "other versions than nothing.txt" in str(why_not_usable(peer, folder))


def test_an_interrupted_environment_is_not_usable_and_goes_on(
    peer: PeerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, commands = environments._run, []

    def interrupted(command: list[str], of: PeerServer) -> None:
        commands.append(command[2])
        if len(commands) == 2:
            raise KeyboardInterrupt
        run(command, of)

    monkeypatch.setattr(environments, "_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        install(peer, tmp_path)
    assert why_not_usable(peer, tmp_path) is not None
    assert install(peer, tmp_path)
    assert commands == ["venv", "pip", "pip"]  # the environment itself is not made again
    assert why_not_usable(peer, tmp_path) is None


def test_what_pip_says_is_passed_on(peer: PeerServer, tmp_path: Path):
    assert peer.requirements is not None
    peer.requirements.write_text("./no-such-folder-anywhere\n")
    with pytest.raises(NotInstalled, match="no-such-folder-anywhere"):
        install(peer, tmp_path / "environments")
    assert why_not_usable(peer, tmp_path / "environments") is not None


@pytest.mark.parametrize("peer", APART, ids=lambda peer: peer.name)
def test_every_package_of_a_peer_is_pinned_and_torch_is_none_of_them(peer: PeerServer):
    assert peer.requirements is not None
    lines = [line for line in peer.requirements.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines)
    names = {line.partition("==")[0].lower() for line in lines}
    assert {"numpy", "onnxruntime", "opencv-python-headless", "simplejpeg"} < names
    assert "torch" not in names


def test_what_peers_import_of_this_project_needs_only_what_their_environments_have():
    script = (
        "import sys, services.detector.cli.bench.peers.detection\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    loaded = set(ended.stdout.split())
    assert {"cv2", "numpy", "onnxruntime", "simplejpeg", "shared"} <= loaded
    assert not loaded & {"typer", "rich", "pydantic", "psutil", "fastapi", "structlog", "orjson", "yaml"}


def test_a_peer_that_ends_at_once_is_left_out_and_the_others_are_measured(
    repository: ModelRepository, bright_pictures: Path, tmp_path: Path
):
    version = repository.path("tiny", 1)
    broken = dataclasses.replace(
        PEERS["fastapi"],
        name="broken",
        command=lambda python, _: [python, "-c", "raise SystemExit('no way')"],
    )
    sides = [peer_side(each, version, 1, tmp_path) for each in (broken, PEERS["fastapi"])]
    plan = ServingPlan(version, bright_pictures, sides, threads=1, rounds=1, seconds=0.1, concurrencies=(1,))
    samples = measure_serving(plan, lambda _: None)
    assert "no way" in samples.left_out["broken"]
    assert list(samples.sides) == ["fastapi"]


def test_a_peer_that_answers_otherwise_is_left_out(
    repository: ModelRepository, bright_pictures: Path, tmp_path: Path
):
    # It serves version 2, whose scores are lower; the bare loop runs version 1.
    wrong = peer_side(PEERS["fastapi"], repository.path("tiny", 2), 1, tmp_path)
    right = repository.path("tiny", 1)
    plan = ServingPlan(right, bright_pictures, [wrong], threads=1, rounds=1, seconds=0.1, concurrencies=(1,))
    samples = measure_serving(plan, lambda _: None)
    assert "plain FastAPI answers picture 0 otherwise" in samples.left_out["fastapi"]
    assert samples.sides == {}
