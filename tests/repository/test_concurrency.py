"""Several processes write at once, and some of them are killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.core.problems import Unavailable
from shared.repository import ModelRepository
from shared.repository.leftovers import clean
from shared.repository.locking import model_lock
from tests.fixtures.tiny_detection_model import tiny_repository

ROOT = Path(__file__).parents[2]

ADD_VERSIONS = """
import sys
from pathlib import Path
from shared.repository import ModelRepository
from tests.fixtures.tiny_detection_model import tiny_manifest
repository, mark = ModelRepository(Path(sys.argv[1])), sys.argv[2]
def build(folder):
    (folder / "model.onnx").write_text(mark)
    return tiny_manifest()
for _ in range(int(sys.argv[3])):
    version = repository.add_version("shared", build)
    repository.promote("shared", version)
    print(version)
"""

BUILD_FOREVER = """
import sys, time
from pathlib import Path
from shared.repository import ModelRepository
def build(folder):
    (folder / "model.onnx").write_bytes(b"half a model")
    print("building", flush=True)
    time.sleep(60)
ModelRepository(Path(sys.argv[1])).add_version("slow", build)
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_concurrent_writers_never_share_or_overwrite_a_version(tmp_path: Path) -> None:
    writers = {mark: start(ADD_VERSIONS, tmp_path, mark, 8) for mark in "abc"}
    owners: dict[int, str] = {}
    for mark, process in writers.items():
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        for line in output.split():
            assert int(line) not in owners
            owners[int(line)] = mark
    repository = ModelRepository(tmp_path)
    assert repository.versions("shared") == sorted(owners) == list(range(1, 25))
    for version, mark in owners.items():
        repository.verify("shared", version)
        assert (repository.path("shared", version) / "model.onnx").read_text() == mark
    aliases = repository.aliases("shared")
    assert set(aliases) == {"live", "previous"}
    assert aliases["live"] != aliases["previous"]


def test_a_killed_writer_leaves_nothing_to_readers_and_clean_removes_the_rest(tmp_path: Path) -> None:
    process = start(BUILD_FOREVER, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "building\n"
    repository = ModelRepository(tmp_path)
    assert clean(repository, dry_run=False) == []  # its writer lives, so it is not touched
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    assert repository.models() == []
    [left] = clean(repository, dry_run=True)
    assert left.name.startswith(".building-")
    assert left.exists()
    assert clean(repository, dry_run=False) == [left]
    assert not left.exists()
    assert clean(repository, dry_run=False) == []


def test_clean_removes_temporary_files_and_spares_versions_and_aliases(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, versions=2)
    folder = repository.root / "tiny"
    before = {path.name for path in folder.iterdir()}
    (folder / ".aliases-abc.json").write_text("{")
    (folder / ".removed-abc" / "7").mkdir(parents=True)
    (folder / "config.pbtxt").write_text("stale")  # its writer died between the aliases and this
    assert {path.name for path in clean(repository, dry_run=False)} == {".aliases-abc.json", ".removed-abc"}
    assert {path.name for path in folder.iterdir()} == before
    assert "versions: [ 1, 2 ]" in (folder / "config.pbtxt").read_text()
    assert repository.verify("tiny", 2).version == 2


def test_waiting_for_a_lock_has_a_deadline(tmp_path: Path) -> None:
    with model_lock(tmp_path / "tiny"):
        started = time.monotonic()
        with (
            pytest.raises(Unavailable, match="another process holds"),
            model_lock(tmp_path / "tiny", deadline_s=0.2),
        ):
            pass
    assert 0.2 <= time.monotonic() - started < 5
    with model_lock(tmp_path / "tiny", deadline_s=0.2):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full_leaves_nothing_visible(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(tmp_path)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    try:
        repository = tiny_repository(tmp_path)

        def build(folder: Path) -> None:
            (folder / "model.onnx").write_bytes(bytes(1_000_000))

        with pytest.raises(OSError, match="No space left"):
            repository.add_version("tiny", build)  # type: ignore[arg-type]
        assert repository.versions("tiny") == [1]
        assert repository.verify("tiny", repository.resolve("tiny")).version == 1
        assert [path for path in (repository.root / "tiny").iterdir() if path.name.startswith(".b")] == []
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
