"""A version whose bytes are not those of its manifest is found out, whatever was done to it."""

import json
import shutil
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.repository import ModelRepository
from shared.repository.manifest import FileEntry, complete
from shared.repository.problems import CorruptVersion, UnsupportedManifest
from tests.fixtures.tiny_detection_model import tiny_manifest, tiny_repository


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return tiny_repository(tmp_path)


def edit_manifest(repository: ModelRepository, **changes: object) -> None:
    path = repository.path("tiny", 1) / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_untouched_version_passes(repository: ModelRepository) -> None:
    assert set(repository.verify("tiny", 1).files) == {"model.onnx"}


@pytest.mark.parametrize("where", [0, 100, -1])
def test_one_flipped_bit_is_found_and_both_digests_are_named(repository: ModelRepository, where: int) -> None:
    path = repository.path("tiny", 1) / "model.onnx"
    expected = repository.manifest("tiny", 1).files["model.onnx"].sha256
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptVersion, match=r"model\.onnx has sha256 [0-9a-f]{64} .* " + expected):
        repository.verify("tiny", 1)


def test_a_truncated_file_is_found_by_its_size(repository: ModelRepository) -> None:
    path = repository.path("tiny", 1) / "model.onnx"
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(CorruptVersion, match=f"has {len(data) - 10} bytes and its manifest says {len(data)}"):
        repository.verify("tiny", 1)


def test_a_missing_file_and_an_unlisted_one_are_found(repository: ModelRepository) -> None:
    folder = repository.path("tiny", 1)
    (folder / "extra.bin").write_bytes(b"external weights, perhaps")
    with pytest.raises(CorruptVersion, match=r"extra\.bin"):
        repository.verify("tiny", 1)
    (folder / "extra.bin").unlink()
    (folder / "model.onnx").unlink()
    with pytest.raises(CorruptVersion, match=r"model\.onnx is missing"):
        repository.verify("tiny", 1)


def test_a_manifest_of_another_schema_is_refused_with_both_numbers(repository: ModelRepository) -> None:
    edit_manifest(repository, schema_version=2)
    with pytest.raises(UnsupportedManifest, match="schema_version 2 and this release reads 1"):
        repository.verify("tiny", 1)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"'])
def test_a_manifest_that_is_no_object_is_refused(repository: ModelRepository, text: str) -> None:
    (repository.path("tiny", 1) / "manifest.json").write_text(text)
    with pytest.raises((CorruptVersion, UnsupportedManifest)):
        repository.manifest("tiny", 1)


def test_a_missing_manifest_is_a_corrupt_version(repository: ModelRepository) -> None:
    (repository.path("tiny", 1) / "manifest.json").unlink()
    with pytest.raises(CorruptVersion, match=r"manifest\.json is missing"):
        repository.manifest("tiny", 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": []},
        {"task": "telepathy"},
        {"preprocessing": {"height": 0, "width": 96}},
        {"unknown": 1},
        {"files": {"../../../etc/passwd": {"sha256": "0" * 64, "bytes": 1}}},
        {"files": {"model.onnx": {"sha256": "short", "bytes": 1}}},
    ],
)
def test_wrong_fields_are_refused_with_their_name(repository: ModelRepository, changes: dict) -> None:
    edit_manifest(repository, **changes)
    with pytest.raises(CorruptVersion, match=next(iter(changes))):
        repository.manifest("tiny", 1)


def test_a_version_copied_to_another_number_is_found_out(repository: ModelRepository) -> None:
    shutil.copytree(repository.path("tiny", 1), repository.root / "tiny" / "2")
    with pytest.raises(CorruptVersion, match="manifest of tiny version 1, not of tiny version 2"):
        repository.verify("tiny", 2)


def test_a_file_replaced_by_a_link_out_of_the_version_is_refused(
    repository: ModelRepository, tmp_path: Path
) -> None:
    path = repository.path("tiny", 1) / "model.onnx"
    elsewhere = tmp_path / "elsewhere.onnx"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(CorruptVersion, match=r"model\.onnx"):
        repository.verify("tiny", 1)


def test_a_finished_manifest_cannot_be_changed() -> None:
    manifest = complete(
        tiny_manifest(), name="tiny", version=1, files={"model.onnx": FileEntry(sha256="0" * 64, bytes=0)}
    )
    with pytest.raises(ValidationError):
        manifest.version = 2
