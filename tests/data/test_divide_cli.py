import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from shared.data.cli import app

runner = CliRunner()
POSITIONS = "ABCDEFGH"


def run(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


def summary(*arguments: object) -> dict:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "steel"
    assert run("make", "steel", "--out", out, "--count", 24, "--size", "64x128", "--seed", 3).exit_code == 0
    return out


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """16 pictures of 96 x 64, two of each of eight positions, every second with a pit."""
    root = tmp_path / "set"
    for folder in ("images", "annotations"):
        (root / folder).mkdir(parents=True)
    for index in range(16):
        name = f"{POSITIONS[index // 2]}_{index:02}"
        pixels = np.random.default_rng(index).integers(0, 256, (64, 96), np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        regions = [{"label": "pit", "bbox": [4, 4, 20, 20]}] if index % 2 else []
        document = {"labels": ["pit"] if index % 2 else [], "regions": regions}
        (root / "annotations" / f"{name}.json").write_text(json.dumps(document))
    return root


def test_make_steel_check_stats_and_preview(made: Path, tmp_path: Path) -> None:
    checked = summary("check", made)
    assert checked["ok"] is True
    assert [split["name"] for split in checked["splits"]] == ["train", "val", "test"]
    counted = summary("stats", made)
    assert counted["splits"] == checked["splits"]
    assert sum(split["images"] for split in counted["splits"]) == 24
    shown = summary("preview", made, "--only", "3", "--count", 2, "--out", tmp_path / "grid.png")
    assert shown["split"] == "train"
    assert len(shown["images"]) == 2
    assert run("check", made).exit_code == 0
    table = run("stats", made).stdout
    assert "classes of train" in table
    assert "fine" not in table


def test_steel_is_replaced_only_with_force_and_only_if_it_is_steel(made: Path, tmp_path: Path) -> None:
    options = ("--count", 20, "--size", "64x128")
    refused = run("make", "steel", "--out", made, *options)
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    mine = tmp_path / "mine"
    (mine / "train_images").mkdir(parents=True)
    (mine / "train.csv").write_text("precious")
    assert run("make", "steel", "--out", mine, *options, "--force").exit_code == 2
    assert (mine / "train.csv").read_text() == "precious"
    dry = summary("make", "steel", "--out", tmp_path / "dry", *options, "--dry-run")
    assert (dry["written"], dry["images"], (tmp_path / "dry").exists()) == (False, 20, False)
    wrong = run("make", "steel", "--out", tmp_path / "x", "--size", "64x64")
    assert wrong.exit_code == 2
    assert "size 64x64" in wrong.stderr


def test_split_writes_a_file_that_training_and_check_find(labelled: Path) -> None:
    dry = summary("split", labelled, "--group-pattern", "^([A-H])", "--dry-run")
    assert not (labelled / "splits.json").exists()
    done = summary("split", labelled, "--group-pattern", "^([A-H])")
    assert done["parts"] == dry["parts"]
    assert sum(part["images"] for part in done["parts"].values()) == 16
    parts = json.loads((labelled / "splits.json").read_text())["parts"]
    groups = [{name[0] for name in members} for members in parts.values()]
    assert sorted(group for part in groups for group in part) == list(POSITIONS)
    assert [split["name"] for split in summary("check", labelled)["splits"]] == ["train", "val", "test"]
    table = run("split", labelled, "--dry-run", "--ratios", "50,50")
    assert "8 (50.0%)" in table.stdout
    assert f"would write {labelled / 'splits.json'}" in table.stdout.replace("\n", "")


def test_split_overwrites_only_split_files_and_only_when_told(labelled: Path) -> None:
    assert run("split", labelled).exit_code == 0
    before = (labelled / "splits.json").read_bytes()
    assert run("split", labelled, "--seed", 5).exit_code == 2
    assert (labelled / "splits.json").read_bytes() == before
    assert run("split", labelled, "--seed", 5, "--force").exit_code == 0
    assert (labelled / "splits.json").read_bytes() != before
    (labelled / "thesis.json").write_text("precious")
    assert run("split", labelled, "--out", labelled / "thesis.json", "--force").exit_code == 2
    assert (labelled / "thesis.json").read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--ratios", "70,x"), 2, "not two or three positive shares"),
        (("--group-pattern", "^([A-C])"), 2, "finds no group in 10 of 16 file names"),
        (("--group-pattern", "set|_"), 1, "too few for 3 splits"),
        (("--format", "severstal"), 1, "holds no train.csv"),
    ],
)
def test_splits_that_cannot_be(labelled: Path, options: tuple[str, ...], code: int, message: str) -> None:
    result = run("split", labelled, *options)
    assert result.exit_code == code
    assert message in result.stderr.replace("\n", "")
    assert not (labelled / "splits.json").exists()


def test_data_that_came_divided_is_not_divided_again(labelled: Path) -> None:
    for kind in ("images", "annotations"):
        (labelled / "train").mkdir(exist_ok=True)
        (labelled / kind).rename(labelled / "train" / kind)
    result = run("split", labelled)
    assert result.exit_code == 2
    assert "comes divided, into train" in result.stderr
    assert run("split", labelled / "train").exit_code == 0


def test_a_class_that_a_part_lacks_is_told(labelled: Path) -> None:
    for file in sorted((labelled / "annotations").glob("*.json"))[2:]:
        file.write_text('{"labels": []}')
    result = run("split", labelled)
    assert result.exit_code == 0
    assert "note: val has no pit; test has no pit" in result.stdout


def test_boxes_are_no_labels(write_coco) -> None:
    result = run("split", write_coco({1: [[0, 0, 9, 9]]}))
    assert result.exit_code == 1
    assert "cannot tell the format" in result.stderr


def test_tiles(labelled: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiles"
    options = (labelled, out, "--size", 32, "--stride", 32, "--min-area", 50, "--group-pattern", "^([A-H])")
    dry = summary("tiles", *options, "--dry-run")
    assert not out.exists()
    done = summary("tiles", *options)
    assert {**dry, "written": True} == done
    # 3 x 2 tiles a picture; the pit of 20 x 20 pixels at 4, 4 lies in the first one.
    assert (done["tiles"], done["clean"], done["classes"]) == (96, 88, {"pit": 8})
    assert done["groups"] == {group: {"tiles": 12, "labelled": 1} for group in POSITIONS}
    assert summary("check", out)["ok"] is True
    assert run("split", out).exit_code == 0
    assert run("tiles", *options).exit_code == 2
    assert run("tiles", *options, "--clean-per-labelled", 1, "--force").exit_code == 0
    assert len(list((out / "images").iterdir())) == 16
    table = run("tiles", *options, "--force", "--dry-run").stdout
    assert "8.3%" in table
    (out / "notes.txt").write_text("precious")
    assert run("tiles", *options, "--force").exit_code == 2
    assert (out / "notes.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--size", "8"), 2, "size 8 must be 16"),
        (("--size", "512", "--stride", "512"), 1, "no tile is left"),
        (("--group-pattern", "("), 2, "no regular expression"),
    ],
)
def test_tiles_that_cannot_be(
    labelled: Path, tmp_path: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    result = run("tiles", labelled, tmp_path / "tiles", *options)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "tiles").exists()


def test_only_is_for_class_labels(write_coco, tmp_path: Path) -> None:
    root = write_coco({1: [[0, 0, 9, 9]]})
    result = run("preview", root, "--only", "person", "--out", tmp_path / "x.png")
    assert result.exit_code == 2
    assert "not for boxes" in result.stderr


def test_stats_of_boxes_and_of_what_cannot_be_read(write_coco, tmp_path: Path) -> None:
    counted = summary("stats", write_coco({1: [[0, 0, 9, 9]], 2: []}))
    assert (counted["format"], counted["splits"][0]["boxes"]) == ("coco", 1)
    (tmp_path / "empty").mkdir()
    result = run("stats", tmp_path / "empty")
    assert result.exit_code == 1
    assert "cannot tell the format" in result.stderr
