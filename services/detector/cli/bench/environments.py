"""The virtual environments of the peers: built on command, each with the packages pinned in its file."""

import hashlib
import subprocess
import sys
from pathlib import Path

from services.detector.cli.bench.peers.catalogue import PeerServer
from shared.core.files import write_atomic

_MARK = "installed"
_TAIL_LINES = 15


class NotInstalled(RuntimeError):
    """An environment could not be built; the message ends with what pip said."""


def why_not_usable(peer: PeerServer, environments: Path) -> str | None:
    """Return why a peer cannot be started from this folder of environments; None if it can."""
    if peer.requirements is None:
        return None
    mark = environments / peer.name / _MARK
    how = f"run `sightline bench peers install {peer.name}`"
    if not mark.is_file():
        return f"{peer.title} is not installed; {how}"
    if mark.read_text() != _digest(peer.requirements):
        return f"{peer.title} is installed with other versions than {peer.requirements.name} names; {how}"
    return None


def install(peer: PeerServer, environments: Path) -> bool:
    """Build a peer's environment, or go on where that was interrupted; return False if it was there.

    Packages come from where pip's own configuration says. Raises NotInstalled.
    """
    if peer.requirements is None or why_not_usable(peer, environments) is None:
        return False
    folder = environments / peer.name
    python = peer.python(environments)
    if not _has_pip(python):
        _run([sys.executable, "-m", "venv", "--clear", str(folder)], peer)
    quiet = ["--quiet", "--disable-pip-version-check"]
    _run([str(python), "-m", "pip", "install", *quiet, "--requirement", str(peer.requirements)], peer)
    write_atomic(folder / _MARK, _digest(peer.requirements))
    return True


def _has_pip(python: Path) -> bool:
    if not python.exists():
        return False
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True).returncode == 0


def _run(command: list[str], peer: PeerServer) -> None:
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ended.returncode:
        said = [line for line in ended.stdout.splitlines() if not line.startswith("WARNING")]
        raise NotInstalled(f"cannot install {peer.title}:\n" + "\n".join(said[-_TAIL_LINES:]))


def _digest(requirements: Path) -> str:
    return hashlib.sha256(requirements.read_bytes()).hexdigest()
