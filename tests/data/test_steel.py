import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.data.classification_check import check_classification
from shared.data.formats.classification import read_classification_set
from shared.data.synthetic.steel import COMBINATIONS, choose_classes, generate_steel, render_strip
from shared.data.synthetic.steel_defects import DEFECTS
from shared.data.synthetic.steel_surface import add_distractors, draw_surface

SIZE = (64, 400)


@pytest.fixture(scope="module")
def steel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "steel"
    generate_steel(out, count=120, size=SIZE, seed=4, processes=1)
    return out


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_frequencies_are_severstals() -> None:
    chosen = Counter(number for held in choose_classes(12_568, np.random.default_rng(0)) for number in held)
    assert chosen == {1: 897, 2: 247, 3: 5150, 4: 801}
    assert sum(COMBINATIONS.values()) == 12_568
    fewer = choose_classes(3000, np.random.default_rng(0))
    counts = Counter(number for held in fewer for number in held)
    assert len(fewer) == 3000
    for number, of_all in {1: 897, 2: 247, 3: 5150, 4: 801}.items():
        assert counts[number] == pytest.approx(3000 * of_all / 12_568, abs=2)
    assert fewer.count(()) == pytest.approx(3000 * 5902 / 12_568, abs=1)


def test_the_set_reads_back_and_is_fine(steel: Path) -> None:
    dataset = read_classification_set(steel)
    assert len(dataset) == 120
    assert dataset.class_names == ["1", "2", "3", "4"]
    assert dataset.class_counts().tolist() == pytest.approx(
        [120 * count / 12_568 for count in (897, 247, 5150, 801)], abs=1.5
    )
    assert {(record.height, record.width) for record in dataset.records} == {SIZE}
    report = check_classification(steel, "severstal")
    assert (report.errors, report.defect_counts.get("other_size", 0)) == (0, 0)
    sizes = {split.name: split.images for split in report.splits}
    assert sum(sizes.values()) == 120
    assert sizes["train"] == pytest.approx(84, abs=3)
    assert sizes["val"] == pytest.approx(18, abs=3)


def test_pictures_are_grey_and_masks_lie_where_the_picture_says(steel: Path) -> None:
    image = cv2.imread(str(steel / "train_images" / "000000.jpg"), cv2.IMREAD_UNCHANGED)
    assert image.shape == SIZE
    for record in read_classification_set(steel).records:
        held = {region.label for region in record.regions}
        assert held == set(np.flatnonzero(record.labels).tolist())
        masks = [region.mask(*SIZE) for region in record.regions]
        assert all(mask.sum() >= 10 for mask in masks)
        assert (
            sum(mask.astype(int) for mask in masks).max() <= 1 if masks else True
        )  # no pixel has two classes


def test_the_seed_decides_whatever_the_processes(steel: Path, tmp_path: Path) -> None:
    generate_steel(tmp_path / "again", count=120, size=SIZE, seed=4, processes=2)
    assert digests(tmp_path / "again") == digests(steel)
    first = render_strip(SIZE, (1,), np.random.default_rng([5, 1, 0]))[0]
    other = render_strip(SIZE, (1,), np.random.default_rng([4, 1, 0]))[0]
    assert (first != other).any()


def test_only_rows_of_defects_are_written(steel: Path) -> None:
    rows = list(csv.DictReader((steel / "train.csv").open()))
    assert set(rows[0]) == {"ImageId", "ClassId", "EncodedPixels"}
    assert all(row["EncodedPixels"] for row in rows)
    assert len({(row["ImageId"], row["ClassId"]) for row in rows}) == len(rows)
    assert json.loads((steel / "steel.json").read_text()) == {
        "description": "synthetic steel set", "seed": 4, "count": 120, "size": list(SIZE)
    }  # fmt: skip


@pytest.mark.parametrize("number", DEFECTS)
def test_a_defect_changes_the_picture_inside_its_mask_and_hardly_outside(number: int) -> None:
    for seed in range(8):
        rng = np.random.default_rng([seed, number])
        surface = draw_surface((128, 800), rng)
        add_distractors(surface, rng)
        before = surface.pixels.copy()
        mask = DEFECTS[number](surface, rng)
        change = np.abs(surface.pixels - before)
        assert mask.shape == (128, 800)
        assert change[mask].mean() > 20 * change[~mask].mean()
        assert change[mask].max() > 12


def test_edge_cracks_begin_at_a_border_and_scratches_lie_across_the_rolling_direction() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        surface = draw_surface((128, 800), rng)
        crack = DEFECTS[4](surface, rng)
        crack[:, : surface.left] = crack[:, surface.right :] = False
        at_border = (
            crack[0].any()
            or crack[-1].any()
            or crack[:, surface.left].any()
            or crack[:, surface.right - 1].any()
        )
        assert at_border
        scratch = DEFECTS[2](draw_surface((128, 800), rng), rng)
        rows, columns = np.nonzero(scratch)
        assert np.ptp(columns) > 0.2 * np.ptp(rows)


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (19, SIZE, "19 pictures are too few"),
        (100, (32, 400), "size 32x400"),
        (100, (256, 300), "size 256x300"),
    ],
)
def test_numbers_that_make_no_set(tmp_path: Path, count: int, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_steel(tmp_path / "x", count=count, size=size)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_stays(steel: Path) -> None:
    with pytest.raises(FileExistsError):
        generate_steel(steel, count=20, size=SIZE)
