"""Files made to break the reader of tensors: nothing in them is called, nothing here changes."""

import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from shared.models.inert_pickle import Placeholder, read_inert

TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def text(word: str) -> bytes:
    return b"X" + struct.pack("<I", len(word)) + word.encode()


def archive(path: Path, program: bytes) -> Path:
    """PyTorch's own zip archive of a tensor, its pickle replaced by `program`."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer)
    with zipfile.ZipFile(buffer) as made, zipfile.ZipFile(path, "w") as written:
        for name in made.namelist():
            written.writestr(name, program if name.endswith("/data.pkl") else made.read(name))
    return path


def test_what_a_file_names_is_not_called(tmp_path):
    target = tmp_path / "made"
    program = b"\x80\x02cbuiltins\nopen\n" + text(str(target)) + text("w") + b"\x86R."
    assert isinstance(read_inert(archive(tmp_path / "a.pt", program)), Placeholder)
    assert not target.exists()


@pytest.mark.parametrize("attribute", ["__defaults__", "__code__", "__kwdefaults__"])
def test_the_functions_that_make_tensors_cannot_be_changed(tmp_path, attribute):
    before = getattr(torch._utils._rebuild_tensor_v2, attribute)
    # BUILD with (None, {attribute: None}) sets the attribute of whatever has no __setstate__
    program = b"\x80\x02" + TENSOR + b"N}" + text(attribute) + b"Ns\x86b."
    with pytest.raises(pickle.UnpicklingError, match="changes what makes its tensors"):
        read_inert(archive(tmp_path / "a.pt", program))
    assert getattr(torch._utils._rebuild_tensor_v2, attribute) is before


@pytest.mark.parametrize("name", [b"ctorch\nSize\n", b"ccollections\nOrderedDict\n"])
@pytest.mark.parametrize("state", [b"}" + text("x") + b"Ns", b"N}" + text("__len__") + b"Ns\x86"])
def test_classes_cannot_be_changed(tmp_path, name, state):
    with pytest.raises(TypeError):
        read_inert(archive(tmp_path / "a.pt", b"\x80\x02" + name + state + b"b."))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*torch.jit:UserWarning")
def test_a_program_is_not_loaded(tmp_path, monkeypatch):
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "program.pt")
    monkeypatch.setattr(torch.jit, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(pickle.UnpicklingError, match="a program"):
        read_inert(tmp_path / "program.pt")


def test_an_older_format_in_front_of_a_zip_archive_is_not_read(tmp_path):
    path = tmp_path / "both.pt"
    with tarfile.open(path, "w") as older:
        older.addfile(tarfile.TarInfo("storages"))
    path.write_bytes(path.read_bytes() + archive(tmp_path / "a.pt", b"\x80\x02}.").read_bytes())
    assert zipfile.is_zipfile(path)
    with pytest.raises(pickle.UnpicklingError, match="no zip archive"):
        read_inert(path)
