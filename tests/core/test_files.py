import errno
import os
import threading
from pathlib import Path

import pytest

from shared.core.files import (
    PathEscapesRoot,
    atomic_directory,
    atomic_path,
    resolve_under,
    sha256_file,
    write_atomic,
)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_contents(tmp_path: Path) -> None:
    target = tmp_path / "a" / "file.json"
    write_atomic(target, "old")
    write_atomic(target, b"new")
    assert target.read_bytes() == b"new"
    assert names_in(target.parent) == ["file.json"]


def test_a_full_disk_leaves_the_old_contents_and_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file.json"
    write_atomic(target, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["file.json"]


def test_the_temporary_keeps_the_suffix_because_writers_choose_their_format_by_it(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "plot.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
    assert (tmp_path / "plot.png").read_bytes() == b"x"


def test_a_reader_sees_the_old_or_the_new_contents_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file"
    contents = [b"a" * 100_000, b"b" * 100_000]
    write_atomic(target, contents[0])
    stop = threading.Event()
    seen: set[bytes] = set()

    def read() -> None:
        while not stop.is_set():
            seen.add(target.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(50):
        write_atomic(target, contents[turn % 2])
    stop.set()
    reader.join()
    assert seen <= set(contents)


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "3"

    def build_badly() -> None:
        with atomic_directory(target) as temporary:
            (temporary / "model.onnx").write_bytes(b"half")
            assert temporary.name.startswith(".")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        build_badly()
    assert names_in(tmp_path) == []

    with atomic_directory(target) as temporary:
        (temporary / "model.onnx").write_bytes(b"whole")
        assert not target.exists()
    assert (target / "model.onnx").read_bytes() == b"whole"


def test_a_folder_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    target = tmp_path / "3"

    def build(text: str, *, meanwhile: str | None = None) -> None:
        with atomic_directory(target) as temporary:
            (temporary / "f").write_text(text)
            if meanwhile:
                target.mkdir()
                (target / "f").write_text(meanwhile)

    with pytest.raises(FileExistsError):
        build("mine", meanwhile="somebody else's")
    with pytest.raises(FileExistsError):
        build("mine again")
    assert (target / "f").read_text() == "somebody else's"
    assert names_in(tmp_path) == ["3"]


@pytest.mark.parametrize("path", ["../b", "/etc/passwd", "a/../../b", "link/secret", "a\0b"])
def test_a_path_that_leads_out_of_its_root_is_refused(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(PathEscapesRoot):
        resolve_under(root, path)


def test_a_path_below_its_root_is_resolved(tmp_path: Path) -> None:
    assert resolve_under(tmp_path, "a/./b") == (tmp_path / "a" / "b").resolve()
    assert resolve_under(tmp_path, tmp_path / "c") == (tmp_path / "c").resolve()


def test_the_digest_is_that_of_fips_180_4(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
