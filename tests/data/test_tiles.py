import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.formats.classification import read_classification_set
from shared.data.groups import group_by_name
from shared.data.regions import box_region
from shared.data.tiles import TileOptions, plan_tiles, write_tiles


@pytest.fixture
def dataset(tmp_path: Path) -> ClassificationSet:
    """Two pictures of 100 x 60 of two specimens and one without labels."""

    def record(name: str, *regions, labels=(False, False), seed: int = 0) -> ClassificationRecord:
        image = np.random.default_rng(seed).integers(0, 256, (60, 100, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / name)
        held = np.array(labels)
        for region in regions:
            held[region.label] = True
        return ClassificationRecord(tmp_path / name, 100, 60, held, name, None, list(regions))

    records = [
        # 20 x 5 = 100 px: 16 columns, 80 px, in the tile 0..31, and 20 px in the tile 32..63.
        record("A1_x.png", box_region(0, 16, 4, 20, 5), seed=1),
        record("A2_y.png", box_region(1, 70, 40, 3, 3), seed=2),
    ]
    unlabelled = [record("B1_z.png", seed=3)]
    return ClassificationSet(records, ["pit", "dent"], "made here", [], unlabelled)


def places(tiles) -> dict[tuple[str, int, int], tuple[int, ...]]:
    return {(tile.record.image_id, tile.left, tile.top): tile.labels for tile in tiles}


def test_labels_follow_the_area_in_the_tile(dataset: ClassificationSet) -> None:
    tiles, report = plan_tiles(dataset, TileOptions(size=32, stride=32, min_area=30))
    found = places(tiles)
    # Columns 0, 32, 64 and, flush with the border, 68; rows 0 and, flush, 28.
    assert {(left, top) for _, left, top in found} <= {(x, y) for x in (0, 32, 64, 68) for y in (0, 28)}
    assert found["A1_x.png", 0, 0] == (0,)
    assert ("A1_x.png", 32, 0) not in found  # 20 px of 100: neither pitted nor clean
    assert found["A1_x.png", 64, 0] == ()
    # 9 px are less than 30 but the whole of that region.
    assert found["A2_y.png", 64, 28] == found["A2_y.png", 68, 28] == (1,)
    assert found["A2_y.png", 64, 0] == ()
    assert report.left_out == {"ambiguous tiles": 1, "pictures without labels": 1}
    assert (report.tiles, report.clean, dict(report.classes)) == (15, 12, {"pit": 1, "dent": 2})


def test_a_smaller_area_is_enough_where_it_is_asked_for(dataset: ClassificationSet) -> None:
    tiles, report = plan_tiles(dataset, TileOptions(size=32, stride=32, min_area=20))
    assert places(tiles)["A1_x.png", 32, 0] == (0,)
    assert "ambiguous tiles" not in report.left_out


def test_pictures_without_labels_are_clean_only_where_that_is_said(dataset: ClassificationSet) -> None:
    options = TileOptions(size=32, stride=32, min_area=30, unlabelled_as_clean=True)
    tiles, report = plan_tiles(dataset, options)
    assert {labels for (name, _, _), labels in places(tiles).items() if name == "B1_z.png"} == {()}
    assert "pictures without labels" not in report.left_out


def test_pictures_that_cannot_be_cut(dataset: ClassificationSet) -> None:
    dataset.records[0].regions_complete = False
    _, report = plan_tiles(dataset, TileOptions(size=32, stride=32, min_area=30))
    assert report.left_out["pictures whose labels say no place"] == 1
    with pytest.raises(
        ValueError, match=r"no tile is left of made here: .*'pictures smaller than a tile': 2"
    ):
        write_tiles(dataset, dataset.records[0].image_path.parent / "out", TileOptions(size=64, stride=64))


def test_two_pictures_of_one_name_are_refused(dataset: ClassificationSet) -> None:
    other = dataset.records[0].image_path.with_suffix(".jpg")
    dataset.records[1].image_path = other
    with pytest.raises(ValueError, match="both have tiles named A1_x_00000_00000"):
        plan_tiles(dataset, TileOptions(size=32, stride=32, min_area=30))


def test_clean_tiles_can_be_thinned_by_seed(dataset: ClassificationSet) -> None:
    def options(seed: int) -> TileOptions:
        return TileOptions(size=32, stride=32, min_area=30, clean_per_labelled=1, seed=seed)

    tiles, report = plan_tiles(dataset, options(0))
    assert (report.tiles, report.clean) == (6, 3)
    assert report.left_out["clean tiles beyond the wanted share"] == 9
    assert places(tiles) == places(plan_tiles(dataset, options(0))[0])
    assert any(places(tiles) != places(plan_tiles(dataset, options(seed))[0]) for seed in (1, 2, 3))


def test_written_tiles_read_back_with_their_groups_regions_and_pixels(
    dataset: ClassificationSet, tmp_path: Path
) -> None:
    grouped = group_by_name(dataset, r"^([A-Z]\d)")
    report = write_tiles(grouped, tmp_path / "tiles", TileOptions(size=32, stride=32, min_area=30))
    tiles = read_classification_set(tmp_path / "tiles")
    assert tiles.class_names == ["pit", "dent"]
    assert len(tiles) == report.tiles == 15
    assert tiles.class_counts().tolist() == [1, 2]
    assert tiles.defects == []
    assert {record.group for record in tiles.records} == {"A1", "A2"}
    first = next(record for record in tiles.records if record.image_id == "A1_x_00000_00000.png")
    mask = first.regions[0].mask(32, 32)
    assert np.argwhere(mask).min(axis=0).tolist() == [4, 16]
    assert mask.sum() == 16 * 5
    source = np.asarray(Image.open(dataset.records[0].image_path))
    assert (np.asarray(Image.open(first.image_path)) == source[:32, :32]).all()
    document = json.loads((tmp_path / "tiles" / "tiles.json").read_text())
    assert document["groups"] == {"A1": {"tiles": 7, "labelled": 1}, "A2": {"tiles": 8, "labelled": 2}}
    assert document["options"]["min_area"] == 30


def test_without_groups_a_picture_is_its_own(dataset: ClassificationSet, tmp_path: Path) -> None:
    write_tiles(dataset, tmp_path / "tiles", TileOptions(size=32, stride=32, min_area=30))
    groups = {record.group for record in read_classification_set(tmp_path / "tiles").records}
    assert groups == {"A1_x.png", "A2_y.png"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 8}, "size 8 must be 16"),
        ({"size": 32, "stride": 33}, "stride 33"),
        ({"size": 32, "stride": 0}, "stride 0"),
        ({"size": 32, "stride": 32, "min_area": 0}, "min_area 0"),
        ({"size": 32, "stride": 32, "min_area": 1025}, "min_area 1025"),
        ({"clean_per_labelled": 0.0}, "clean_per_labelled 0.0"),
    ],
)
def test_options_that_cut_nothing(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TileOptions(**options)


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"^([A-Z])\d", ["A", "A", "B"]),
        (r"[A-Z]\d", ["A1", "A2", "B1"]),
        (r"^(A)(\d)|^(B)", ["A_1", "A_2", "B"]),
    ],
)
def test_groups_from_names(dataset: ClassificationSet, pattern: str, groups: list[str]) -> None:
    grouped = group_by_name(dataset, pattern)
    assert [record.group for record in [*grouped.records, *grouped.unlabelled]] == groups
    assert dataset.records[0].group is None


def test_patterns_that_leave_pictures_without_a_group(dataset: ClassificationSet) -> None:
    with pytest.raises(ValueError, match=r"finds no group in 1 of 3 file names, B1_z\.png among them"):
        group_by_name(dataset, "^(A)")
    with pytest.raises(ValueError, match="is no regular expression"):
        group_by_name(dataset, "(")
