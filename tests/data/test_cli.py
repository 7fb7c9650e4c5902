import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from shared.data.cli import app

runner = CliRunner()


def run(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


def make(out: Path, *more: object):
    return run("make", "cctv", "--out", out, "--train", 3, "--val", 0, "--test", 1, "--size", "64x96", *more)


def test_make_check_and_preview(tmp_path: Path) -> None:
    out = tmp_path / "cctv"
    made = make(out, "--json")
    assert made.exit_code == 0
    assert json.loads(made.stdout)["images"] == {"train": 3, "val": 0, "test": 1}
    assert Image.open(out / "train" / "000002.jpg").size == (96, 64)
    checked = run("check", out, "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["ok"] is True
    shown = run("preview", out, "--split", "train", "--out", tmp_path / "grid.png", "--count", 4, "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["images"] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    assert Image.open(tmp_path / "grid.png").size == (640, 640)


def test_the_same_seed_from_the_command_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert make(tmp_path / name, "--seed", 7).exit_code == 0
    assert (tmp_path / "a/train/000000.jpg").read_bytes() == (tmp_path / "b/train/000000.jpg").read_bytes()


def test_check_exits_with_5_and_names_the_defect(write_coco) -> None:
    root = write_coco({1: [[0, 0, 0, 9]], 2: []})
    (root / "train" / "2.png").unlink()
    table = run("check", root)
    assert table.exit_code == 5
    assert "missing_image" in table.stdout
    assert "empty_box" in table.stdout
    assert "not fine: 2 errors" in table.stdout
    document = run("check", root, "--json")
    assert document.exit_code == 5
    assert json.loads(document.stdout)["errors"] == 2


def test_warnings_alone_exit_with_0(write_coco) -> None:
    result = run("check", write_coco({1: [[60, 0, 20, 9]]}), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["warnings"] == 1


def test_a_path_that_does_not_exist_exits_with_3(tmp_path: Path) -> None:
    for command in ("check", "preview"):
        result = run(command, tmp_path / "nothing")
        assert result.exit_code == 3
        assert "neither in the current folder nor under" in result.stderr


def test_a_set_in_the_data_root_is_found_by_its_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path))
    assert run("make", "cctv", "--train", 2, "--val", 0, "--test", 0, "--size", 64).exit_code == 0
    checked = run("check", "cctv", "--json")
    assert checked.exit_code == 0
    assert json.loads(checked.stdout)["source"] == str(tmp_path / "data" / "cctv")


def test_an_unknown_format_is_a_mistake_of_usage(tmp_path: Path) -> None:
    result = run("check", tmp_path, "--format", "coc")
    assert (result.exit_code, result.stdout) == (2, "")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    result = make(tmp_path / "cctv", "--dry-run")
    assert result.exit_code == 0
    assert "would write 4 pictures" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_set_is_replaced_only_with_force(tmp_path: Path) -> None:
    out = tmp_path / "cctv"
    assert make(out).exit_code == 0
    before = (out / "train" / "000000.jpg").read_bytes()
    refused = make(out, "--seed", 1)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert (out / "train" / "000000.jpg").read_bytes() == before
    assert make(out, "--seed", 1, "--force").exit_code == 0
    assert (out / "train" / "000000.jpg").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["cctv"]


def test_force_never_replaces_anything_but_a_cctv_set(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    result = make(mine, "--force")
    assert result.exit_code == 2
    assert "something else" in result.stderr
    assert (mine / "thesis.txt").read_text() == "precious"
    assert make(tmp_path / "set").exit_code == 0
    (tmp_path / "set" / "notes.txt").write_text("precious")
    assert make(tmp_path / "set", "--force").exit_code == 2
    assert (tmp_path / "set" / "notes.txt").read_text() == "precious"


def test_an_earlier_set_comes_back_when_its_replacement_fails(tmp_path: Path) -> None:
    out = tmp_path / "cctv"
    assert make(out).exit_code == 0
    before = (out / "annotations" / "train.json").read_bytes()
    result = run("make", "cctv", "--out", out, "--size", 8, "--force")
    assert result.exit_code == 2
    assert "64 to 4096" in result.stderr
    assert (out / "annotations" / "train.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["cctv"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "cctv").mkdir()
    assert make(tmp_path / "cctv").exit_code == 0
    assert (tmp_path / "cctv" / "annotations" / "train.json").is_file()


@pytest.mark.parametrize("size", ["big", "10x", "-5", "64x64x3"])
def test_sizes_that_cannot_be_read(size: str, tmp_path: Path) -> None:
    result = run("make", "cctv", "--out", tmp_path / "x", f"--size={size}")
    assert result.exit_code == 2
    assert "360x640" in result.stderr


def test_preview_does_not_overwrite_and_names_what_is_wrong(tmp_path: Path) -> None:
    make(tmp_path / "cctv")
    target = tmp_path / "grid.jpg"
    target.write_text("precious")
    assert run("preview", tmp_path / "cctv", "--out", target).exit_code == 2
    assert target.read_text() == "precious"
    assert run("preview", tmp_path / "cctv", "--out", target, "--force").exit_code == 0
    assert Image.open(target).format == "JPEG"
    wrong = run("preview", tmp_path / "cctv", "--out", tmp_path / "grid.gif")
    assert wrong.exit_code == 2
    assert ".jpg or .png" in wrong.stderr
    absent = run("preview", tmp_path / "cctv", "--split", "holdout", "--out", tmp_path / "other.jpg")
    assert absent.exit_code == 1
    assert "no split 'holdout'" in absent.stderr


def test_the_command_line_is_cheap_to_load() -> None:
    heavy = ("torch", "cv2", "albumentations")
    code = f"import sys, shared.data.cli; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
