"""Versions appear whole or not at all, aliases say which is live, and nothing leads out of the folder."""

import errno
import json
import os
from pathlib import Path

import pytest

import shared.repository.repository as repository_module
from shared.core.files import PathEscapesRoot
from shared.core.problems import Conflict
from shared.repository import ManifestDraft, ModelRepository
from shared.repository.problems import (
    CorruptVersion,
    InvalidName,
    UnknownModel,
    UnknownVersion,
    VersionInUse,
)
from tests.fixtures.tiny_detection_model import add_tiny_version, tiny_manifest, tiny_repository


def build_something(folder: Path) -> ManifestDraft:
    (folder / "model.onnx").write_bytes(b"not a graph, but the repository does not look inside")
    return tiny_manifest()


def visible_names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_an_empty_or_missing_root_holds_no_models(tmp_path: Path) -> None:
    assert ModelRepository(tmp_path / "nowhere").models() == []


def test_versions_are_numbered_from_one_and_read_back_as_drafted(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    assert [repository.add_version("person", build_something) for _ in range(3)] == [1, 2, 3]
    assert repository.models() == ["person"]
    assert repository.versions("person") == [1, 2, 3]
    manifest = repository.manifest("person", 2)
    assert (manifest.name, manifest.version) == ("person", 2)
    assert ManifestDraft(**manifest.model_dump(include=set(ManifestDraft.model_fields))) == tiny_manifest()
    assert repository.verify("person", 2) == manifest


def test_a_new_version_is_not_live_until_it_is_promoted(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    repository.add_version("person", build_something)
    assert repository.aliases("person") == {}
    with pytest.raises(UnknownVersion, match="promote"):
        repository.resolve("person")
    repository.promote("person", 1)
    assert repository.resolve("person") == 1


def test_promoting_keeps_the_version_before_and_rollback_exchanges_the_two(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, versions=3)
    assert repository.aliases("tiny") == {"live": 3, "previous": 2}
    repository.promote("tiny", 3)  # promoting the live version again forgets nothing
    assert repository.aliases("tiny") == {"live": 3, "previous": 2}
    assert repository.rollback("tiny") == 2
    assert repository.aliases("tiny") == {"live": 2, "previous": 3}
    assert repository.rollback("tiny") == 3


def test_rollback_without_a_previous_version_is_a_conflict(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="no previous version"):
        tiny_repository(tmp_path).rollback("tiny")


def test_a_version_is_found_by_number_by_text_by_alias_and_by_default(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, versions=3)
    repository.set_alias("tiny", "canary", 1)
    assert [repository.resolve("tiny", version) for version in (2, "2", "canary", "previous", None)] == [
        2, 2, 1, 2, 3,
    ]  # fmt: skip
    for unknown in (9, "9", "beta", "02x", "٣", "9" * 23, "9" * 5000):
        with pytest.raises(UnknownVersion):
            repository.resolve("tiny", unknown)
    with pytest.raises(UnknownModel, match="there are: tiny"):
        repository.resolve("tine")


def test_an_alias_can_be_removed_and_must_name_a_version(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    repository.set_alias("tiny", "canary", 1)
    repository.set_alias("tiny", "canary", None)
    assert repository.aliases("tiny") == {"live": 1}
    with pytest.raises(UnknownVersion):
        repository.set_alias("tiny", "canary", 7)
    with pytest.raises(InvalidName):
        repository.set_alias("tiny", "7", 1)


def test_a_version_in_use_is_not_removed(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, versions=3)
    for version in (2, 3):
        with pytest.raises(VersionInUse, match="move the alias first"):
            repository.remove("tiny", version)
    repository.remove("tiny", 1)
    assert repository.versions("tiny") == [2, 3]


def test_the_number_of_a_removed_version_is_not_given_again(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    for _ in range(2):
        repository.add_version("person", build_something)
    repository.remove("person", 2)
    repository.remove("person", 1)
    assert repository.models() == []
    assert repository.add_version("person", build_something) == 3


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "/etc",
        "Person",
        "a" * 65,
        "-dash",
        ".hidden",
        "a\0b",
        "a\n",
        "é",
        "a b",
    ],
)
def test_names_that_could_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    repository = ModelRepository(tmp_path)
    for call in (
        lambda: repository.add_version(name, build_something),
        lambda: repository.versions(name),
        lambda: repository.promote(name, 1),
    ):
        with pytest.raises(InvalidName):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_link_that_leads_out_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    outside = tiny_repository(tmp_path / "outside").root / "tiny"
    root = tmp_path / "inside"
    root.mkdir()
    (root / "tiny").symlink_to(outside)
    with pytest.raises(PathEscapesRoot):
        ModelRepository(root).versions("tiny")


def test_readers_pass_over_unfinished_and_foreign_names(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    folder = repository.root / "tiny"
    for name in (".building-x", ".removed-y", "007", "3.tmp", "notes"):
        (folder / name).mkdir()
    (folder / "4").write_text("a file, no version")
    (repository.root / ".trash").mkdir()
    (repository.root / "empty").mkdir()
    assert repository.models() == ["tiny"]
    assert repository.versions("tiny") == [1]


def test_a_build_that_fails_leaves_nothing_visible(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)

    def build(folder: Path) -> ManifestDraft:
        (folder / "model.onnx").write_bytes(b"half")
        raise RuntimeError("the gate said no")

    with pytest.raises(RuntimeError, match="the gate said no"):
        repository.add_version("person", build)
    assert repository.models() == []
    assert {path.name for path in (tmp_path / "person").iterdir()} <= {".lock"}


def test_a_build_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"wrote no model\.onnx"):
        ModelRepository(tmp_path).add_version("person", lambda folder: tiny_manifest())


def test_a_full_disk_while_building_leaves_nothing_visible(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)

    def build(folder: Path) -> ManifestDraft:
        (folder / "model.onnx").write_bytes(b"first half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        repository.add_version("person", build)
    assert repository.models() == []
    assert repository.add_version("person", build_something) == 1


@pytest.mark.parametrize("written_before", [0, 1, 2])
def test_a_full_disk_while_publishing_leaves_nothing_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written_before: int
) -> None:
    """The disk is full at the manifest, at the count of versions, or at Triton's configuration."""
    repository = ModelRepository(tmp_path)
    real, calls = repository_module.write_atomic, 0

    def full_disk(path: Path, data: bytes | str) -> None:
        nonlocal calls
        calls += 1
        if calls > written_before:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(repository_module, "write_atomic", full_disk)
        with pytest.raises(OSError, match="No space left"):
            repository.add_version("person", build_something)
    assert calls == written_before + 1
    assert repository.models() == []
    assert not any(path.name.startswith(".building-") for path in (tmp_path / "person").iterdir())
    assert visible_names(tmp_path / "person") <= {"config.pbtxt"}
    repository.add_version("person", build_something)
    assert repository.verify("person", repository.versions("person")[0]).name == "person"


def test_a_full_disk_while_promoting_leaves_the_aliases_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tiny_repository(tmp_path, versions=2)
    add_tiny_version(repository, promote=False)

    def full_disk(path: Path, data: bytes | str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(repository_module, "write_atomic", full_disk)
    with pytest.raises(OSError, match="No space left"):
        repository.promote("tiny", 3)
    assert repository.aliases("tiny") == {"live": 2, "previous": 1}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"live": "3"}', '{"live": true}'])
def test_damaged_aliases_are_reported_and_not_read_as_none(tmp_path: Path, text: str) -> None:
    repository = tiny_repository(tmp_path)
    repository.aliases_path("tiny").write_text(text)
    with pytest.raises(CorruptVersion, match=r"aliases\.json"):
        repository.resolve("tiny")


def test_a_corrupt_version_is_not_promoted(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path)
    add_tiny_version(repository, promote=False)
    with (repository.path("tiny", 2) / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(CorruptVersion):
        repository.promote("tiny", 2)
    assert repository.resolve("tiny") == 1


def test_aliases_are_plain_json_for_other_programs(tmp_path: Path) -> None:
    repository = tiny_repository(tmp_path, versions=2)
    assert json.loads((repository.root / "tiny" / "aliases.json").read_text()) == {"live": 2, "previous": 1}
